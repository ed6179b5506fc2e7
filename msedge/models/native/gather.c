/* Rows of a tensor in another order, and the gradient: every row's sum over the places it went to. */
#include <string.h>

#include "common.h"

enum { PARTS_OF_ONE = 8 };

struct gather {
    const float *x;
    const int32_t *index;
    float *y;
    int64_t rows, many, inner, parts; /* `parts`: into how many pieces an outer index is cut */
};

static void gather_piece(void *arguments, int64_t piece) {
    struct gather *a = arguments;
    int64_t outer = piece / a->parts, part = piece % a->parts;
    const float *x = a->x + outer * a->rows * a->inner;
    float *y = a->y + outer * a->many * a->inner;
    for (int64_t i = a->many * part / a->parts; i < a->many * (part + 1) / a->parts; i++)
        memcpy(y + i * a->inner, x + a->index[i] * a->inner, (size_t)a->inner * sizeof(float));
}

/* Here the parts are columns: two of them never add to the same number. */
static void scatter_piece(void *arguments, int64_t piece) {
    struct gather *a = arguments;
    int64_t outer = piece / a->parts, part = piece % a->parts;
    int64_t first = a->inner * part / a->parts, last = a->inner * (part + 1) / a->parts;
    const float *dy = a->x + outer * a->many * a->inner;
    float *dx = a->y + outer * a->rows * a->inner;
    for (int64_t r = 0; r < a->rows; r++) memset(dx + r * a->inner + first, 0, (size_t)(last - first) * sizeof(float));
    for (int64_t i = 0; i < a->many; i++) {
        float *row = dx + a->index[i] * a->inner;
        const float *from = dy + i * a->inner;
#pragma omp simd
        for (int64_t j = first; j < last; j++) row[j] += from[j];
    }
}

static struct gather cut(int64_t **shapes, int *ranks, int axis, int64_t *outer) {
    *outer = elements(shapes[0], axis);
    return (struct gather){.rows = shapes[0][axis], .inner = elements(shapes[0] + axis + 1, ranks[0] - axis - 1),
                           .many = elements(shapes[1], ranks[1]), .parts = *outer < PARTS_OF_ONE ? PARTS_OF_ONE : 1};
}

static void forward(void **data, int *ranks, int64_t **shapes, int axis) {
    int64_t outer;
    struct gather a = cut(shapes, ranks, axis, &outer);
    a.x = data[0], a.index = data[1], a.y = data[2];
    run_pieces(gather_piece, &a, outer * a.parts);
}

static void backward(void **data, int *ranks, int64_t **shapes, int axis) {
    int64_t outer;
    struct gather a = cut(shapes, ranks, axis, &outer);
    a.x = data[2], a.index = data[1], a.y = data[3];
    run_pieces(scatter_piece, &a, outer * a.parts);
}

/* (x, index [...] int32 within the rows of the axis) to x[..., index, ...]. */
KERNEL(gather_0) { forward(data, ranks, shapes, 0); DONE; }
KERNEL(gather_1) { forward(data, ranks, shapes, 1); DONE; }

/* (x for its shape, index, dy) to dx. */
KERNEL(gather_0_gradient) { backward(data, ranks, shapes, 0); DONE; }
KERNEL(gather_1_gradient) { backward(data, ranks, shapes, 1); DONE; }
