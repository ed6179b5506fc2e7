#include "gemm.h"

#include <string.h>

typedef float vector __attribute__((vector_size(VECTOR * sizeof(float)), aligned(4), may_alias));

void pack_rows(float *packed, const float *const *rows, int64_t depth, int64_t columns) {
    for (int64_t j = 0; j < columns; j += LANES, packed += LANES * depth) {
        int64_t many = columns - j < LANES ? columns - j : LANES;
        for (int64_t k = 0; k < depth; k++) {
            float *to = packed + k * LANES;
            if (many == LANES) {
                const float *from = rows[k] + j;
                *(vector *)to = *(const vector *)from;
                *(vector *)(to + VECTOR) = *(const vector *)(from + VECTOR);
            } else {
                memset(to, 0, LANES * sizeof(float));
                memcpy(to, rows[k] + j, (size_t)many * sizeof(float));
            }
        }
    }
}

void pack_columns(float *packed, const float *const *columns, int64_t depth, int64_t count) {
    for (int64_t j = 0; j < count; j += LANES, packed += LANES * depth) {
        int64_t many = count - j < LANES ? count - j : LANES;
        if (many < LANES) memset(packed, 0, (size_t)(LANES * depth) * sizeof(float));
        for (int64_t first = 0; first < depth; first += 16) { /* some rows at a time: they stay in the nearest cache */
            int64_t last = first + 16 < depth ? first + 16 : depth;
            for (int64_t lane = 0; lane < many; lane++)
                for (int64_t k = first; k < last; k++) packed[k * LANES + lane] = columns[j + lane][k];
        }
    }
}

/* HEIGHT rows by LANES columns, or by VECTOR columns where `wide` is 0, held in registers. */
static inline __attribute__((always_inline)) void tile(float *out, int64_t stride, int add, const float *const *a, int64_t step,
                                                       const float *packed, int64_t depth, int64_t rows, int64_t columns,
                                                       int wide) {
    vector left[HEIGHT], right[HEIGHT];
    for (int r = 0; r < HEIGHT; r++) left[r] = right[r] = (vector){0};
    for (int64_t k = 0; k < depth; k++) {
        vector b = *(const vector *)(packed + k * LANES), c = *(const vector *)(packed + k * LANES + VECTOR);
#pragma GCC unroll 12
        for (int r = 0; r < HEIGHT; r++) {
            float x = a[r][k * step];
            left[r] += x * b;
            if (wide) right[r] += x * c;
        }
    }
    if (rows == HEIGHT && columns == LANES) {
#pragma GCC unroll 12
        for (int r = 0; r < HEIGHT; r++) {
            vector *to = (vector *)(out + r * stride), *next = (vector *)(out + r * stride + VECTOR);
            if (add) left[r] += *to, right[r] += *next;
            *to = left[r];
            *next = right[r];
        }
        return;
    }
    float all[HEIGHT][LANES];
    for (int r = 0; r < HEIGHT; r++) {
        *(vector *)all[r] = left[r];
        *(vector *)(all[r] + VECTOR) = right[r];
    }
    for (int64_t r = 0; r < rows; r++)
        for (int64_t j = 0; j < columns; j++) out[r * stride + j] = (add ? out[r * stride + j] : 0) + all[r][j];
}

void multiply(float *out, int64_t stride, int add, const float *const *a, int64_t step, const float *packed, int64_t rows,
              int64_t columns, int64_t depth) {
    for (int64_t start = 0; start < depth; start += DEPTH) {
        int64_t many = depth - start < DEPTH ? depth - start : DEPTH;
        for (int64_t j = 0; j < columns; j += LANES) {
            const float *panel = packed + j * depth + start * LANES;
            for (int64_t i = 0; i < rows; i += HEIGHT) {
                int64_t high = rows - i < HEIGHT ? rows - i : HEIGHT, wide = columns - j < LANES ? columns - j : LANES;
                const float *lines[HEIGHT];
                for (int r = 0; r < HEIGHT; r++) lines[r] = a[i + (r < high ? r : 0)] + start * step;
                float *to = out + i * stride + j;
                int more = add || start;
                if (wide > VECTOR && step == 1) tile(to, stride, more, lines, 1, panel, many, high, wide, 1);
                else if (wide > VECTOR) tile(to, stride, more, lines, step, panel, many, high, wide, 1);
                else tile(to, stride, more, lines, step, panel, many, high, wide, 0);
            }
        }
    }
}
