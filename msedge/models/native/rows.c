/* Operators on [rows, columns]: LayerNorm, bias with activation, softmax, and their gradients.
 *
 * Rows are cut into PIECES pieces. Sums over all rows are made piece by piece and then added in the order of the pieces. */
#include <string.h>

#include "common.h"

enum { PIECES = 16 };

struct rows {
    const float *x, *dy, *weight, *bias, *mean, *scale;
    float *y, *new_mean, *new_scale, *sums; /* `sums`: [PIECES, 2, columns] */
    int64_t rows, columns;
    float eps;
};

static int64_t border(const struct rows *a, int64_t piece) { return a->rows * piece / PIECES; }

static void run_rows(piece_function function, struct rows *a, float *first, float *second) {
    if (first) a->sums = memset(scratch(SUMS, PIECES * 2 * a->columns), 0, (size_t)(PIECES * 2 * a->columns) * sizeof(float));
    run_pieces(function, a, PIECES);
    if (!first) return;
    for (int64_t i = 0; i < a->columns; i++) {
        double one = 0, two = 0;
        for (int64_t piece = 0; piece < PIECES; piece++) {
            one += a->sums[2 * piece * a->columns + i];
            two += a->sums[(2 * piece + 1) * a->columns + i];
        }
        first[i] = (float)one;
        if (second) second[i] = (float)two;
    }
}

static void norm_piece(void *arguments, int64_t piece) {
    struct rows *a = arguments;
    int64_t columns = a->columns;
    for (int64_t r = border(a, piece); r < border(a, piece + 1); r++) {
        const float *x = a->x + r * columns;
        float *y = a->y + r * columns, sum = 0, squares = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t i = 0; i < columns; i++) sum += x[i];
        float mean = sum / (float)columns;
#pragma omp simd reduction(+ : squares)
        for (int64_t i = 0; i < columns; i++) squares += (x[i] - mean) * (x[i] - mean);
        float scale = 1.0f / sqrtf(squares / (float)columns + a->eps);
#pragma omp simd
        for (int64_t i = 0; i < columns; i++) y[i] = (x[i] - mean) * scale * a->weight[i] + a->bias[i];
        a->new_mean[r] = mean;
        a->new_scale[r] = scale;
    }
}

static void norm_gradient_piece(void *arguments, int64_t piece) {
    struct rows *a = arguments;
    int64_t columns = a->columns;
    float *dweight = a->sums + 2 * piece * columns, *dbias = dweight + columns;
    for (int64_t r = border(a, piece); r < border(a, piece + 1); r++) {
        const float *x = a->x + r * columns, *dy = a->dy + r * columns;
        float *dx = a->y + r * columns, mean = a->mean[r], scale = a->scale[r], sum = 0, product = 0;
#pragma omp simd reduction(+ : sum, product)
        for (int64_t i = 0; i < columns; i++) {
            float z = (x[i] - mean) * scale, d = dy[i] * a->weight[i];
            dweight[i] += dy[i] * z;
            dbias[i] += dy[i];
            sum += d;
            product += d * z;
        }
        sum /= (float)columns;
        product /= (float)columns;
#pragma omp simd
        for (int64_t i = 0; i < columns; i++)
            dx[i] = (dy[i] * a->weight[i] - sum - (x[i] - mean) * scale * product) * scale;
    }
}

/* (x [rows, columns], weight [columns], bias, [eps]) to (y, mean [rows], scale [rows]). */
KERNEL(layer_norm) {
    struct rows a = {.x = data[0], .weight = data[1], .bias = data[2], .eps = *(float *)data[3], .y = data[4],
                     .new_mean = data[5], .new_scale = data[6], .rows = shapes[0][0], .columns = shapes[0][1]};
    run_rows(norm_piece, &a, 0, 0);
    DONE;
}

/* (x, weight, mean, scale, dy) to (dx, dweight, dbias). */
KERNEL(layer_norm_gradient) {
    struct rows a = {.x = data[0], .weight = data[1], .mean = data[2], .scale = data[3], .dy = data[4], .y = data[5],
                     .rows = shapes[0][0], .columns = shapes[0][1]};
    run_rows(norm_gradient_piece, &a, data[6], data[7]);
    DONE;
}

static inline __attribute__((always_inline)) void bias_rows(void *arguments, int64_t piece, int kind) {
    struct rows *a = arguments;
    for (int64_t r = border(a, piece); r < border(a, piece + 1); r++) {
        const float *x = a->x + r * a->columns, *bias = a->bias;
        float *y = a->y + r * a->columns;
#pragma omp simd
        for (int64_t i = 0; i < a->columns; i++) y[i] = act(kind, x[i] + bias[i]);
    }
}

static inline __attribute__((always_inline)) void bias_gradient_rows(void *arguments, int64_t piece, int kind) {
    struct rows *a = arguments;
    float *sums = a->sums + 2 * piece * a->columns;
    for (int64_t r = border(a, piece); r < border(a, piece + 1); r++) {
        const float *x = a->x + r * a->columns, *dy = a->dy + r * a->columns, *bias = a->bias;
        float *dx = a->y + r * a->columns;
#pragma omp simd
        for (int64_t i = 0; i < a->columns; i++) {
            float d = dy[i] * act_slope(kind, x[i] + bias[i]);
            dx[i] = d;
            sums[i] += d;
        }
    }
}

static void column_sum_piece(void *arguments, int64_t piece) {
    struct rows *a = arguments;
    float *sums = a->sums + 2 * piece * a->columns;
    for (int64_t r = border(a, piece); r < border(a, piece + 1); r++) {
        const float *dy = a->dy + r * a->columns;
#pragma omp simd
        for (int64_t i = 0; i < a->columns; i++) sums[i] += dy[i];
    }
}

/* (x [rows, columns], bias [columns]) to act(x + bias); (x, bias, dy) to (dx, dbias). */
#define BIAS(kind_name, kind) \
    static void kind_name##_piece(void *arguments, int64_t piece) { bias_rows(arguments, piece, kind); } \
    static void kind_name##_gradient_piece(void *arguments, int64_t piece) { bias_gradient_rows(arguments, piece, kind); } \
    KERNEL(bias_##kind_name) { \
        struct rows a = {.x = data[0], .bias = data[1], .y = data[2], .rows = shapes[0][0], .columns = shapes[0][1]}; \
        run_rows(kind_name##_piece, &a, 0, 0); \
        DONE; \
    } \
    KERNEL(bias_##kind_name##_gradient) { \
        struct rows a = {.x = data[0], .bias = data[1], .dy = data[2], .y = data[3], .rows = shapes[0][0], \
                         .columns = shapes[0][1]}; \
        run_rows(kind_name##_gradient_piece, &a, data[4], 0); \
        DONE; \
    }

BIAS(silu, ACT_SILU)
BIAS(gelu, ACT_GELU)

void sum_rows(const float *x, float *sums, int64_t rows, int64_t columns) {
    struct rows a = {.dy = x, .rows = rows, .columns = columns};
    run_rows(column_sum_piece, &a, sums, 0);
}

/* Softmax over the last axis. */
static void softmax_piece(void *arguments, int64_t piece) {
    struct rows *a = arguments;
    for (int64_t r = border(a, piece); r < border(a, piece + 1); r++) {
        const float *x = a->x + r * a->columns;
        float *y = a->y + r * a->columns, most = x[0], sum = 0;
#pragma omp simd reduction(max : most)
        for (int64_t i = 0; i < a->columns; i++) most = x[i] > most ? x[i] : most;
#pragma omp simd reduction(+ : sum)
        for (int64_t i = 0; i < a->columns; i++) {
            y[i] = fast_exp(x[i] - most);
            sum += y[i];
        }
        float share = 1.0f / sum;
#pragma omp simd
        for (int64_t i = 0; i < a->columns; i++) y[i] *= share;
    }
}

static void softmax_gradient_piece(void *arguments, int64_t piece) {
    struct rows *a = arguments;
    for (int64_t r = border(a, piece); r < border(a, piece + 1); r++) {
        const float *y = a->x + r * a->columns, *dy = a->dy + r * a->columns;
        float *dx = a->y + r * a->columns, sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t i = 0; i < a->columns; i++) sum += y[i] * dy[i];
#pragma omp simd
        for (int64_t i = 0; i < a->columns; i++) dx[i] = y[i] * (dy[i] - sum);
    }
}

/* x to softmax(x); (softmax(x), dy) to dx. Any shape. */
KERNEL(softmax) {
    int64_t columns = shapes[0][ranks[0] - 1];
    struct rows a = {.x = data[0], .y = data[1], .rows = elements(shapes[0], ranks[0]) / columns, .columns = columns};
    run_rows(softmax_piece, &a, 0, 0);
    DONE;
}

KERNEL(softmax_gradient) {
    int64_t columns = shapes[0][ranks[0] - 1];
    struct rows a = {.x = data[0], .dy = data[1], .y = data[2], .rows = elements(shapes[0], ranks[0]) / columns,
                     .columns = columns};
    run_rows(softmax_gradient_piece, &a, 0, 0);
    DONE;
}

/* Activations of any shape, cut like rows of one element. */
#define ACTIVATION(name, kind) \
    static void name##_each(void *arguments, int64_t piece) { \
        struct rows *a = arguments; \
        const float *x = a->x; \
        float *y = a->y; \
        _Pragma("omp simd") for (int64_t i = border(a, piece); i < border(a, piece + 1); i++) y[i] = act(kind, x[i]); \
    } \
    static void name##_each_gradient(void *arguments, int64_t piece) { \
        struct rows *a = arguments; \
        const float *x = a->x, *dy = a->dy; \
        float *dx = a->y; \
        _Pragma("omp simd") for (int64_t i = border(a, piece); i < border(a, piece + 1); i++) \
            dx[i] = dy[i] * act_slope(kind, x[i]); \
    } \
    KERNEL(name) { \
        struct rows a = {.x = data[0], .y = data[1], .rows = elements(shapes[0], ranks[0])}; \
        run_rows(name##_each, &a, 0, 0); \
        DONE; \
    } \
    KERNEL(name##_gradient) { \
        struct rows a = {.x = data[0], .dy = data[1], .y = data[2], .rows = elements(shapes[0], ranks[0])}; \
        run_rows(name##_each_gradient, &a, 0, 0); \
        DONE; \
    }

ACTIVATION(silu, ACT_SILU)
ACTIVATION(gelu, ACT_GELU)
