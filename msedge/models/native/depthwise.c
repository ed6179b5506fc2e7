/* Depthwise convolution [N, C, H, W] with an odd k x k kernel and padding k // 2, and its gradients.
 *
 * A padded image is split into stride * stride phases (every stride-th row and column); in a phase the inputs of
 * neighbouring outputs are neighbours, so that all loops run over whole planes with step 1. Rows of a phase are a little
 * longer than rows of the output: what is computed in between is left behind when rows are copied out. */
#include <string.h>

#include "common.h"

struct depthwise {
    const float *x, *weight, *dy;
    float *y, *dx, *dweight;
    int64_t batch, channels, height, width, out_height, out_width;
    int kernel, stride;
};

struct plane { /* the geometry of a phase */
    int64_t rows, row, size, length; /* `length`: from the first to the last output */
};

static struct plane geometry(const struct depthwise *a) {
    struct plane p;
    int64_t reach = (a->kernel - 1) / a->stride;
    p.rows = a->out_height + reach;
    p.row = a->out_width + reach;
    p.size = p.rows * p.row + 16;
    p.length = (a->out_height - 1) * p.row + a->out_width;
    return p;
}

static int64_t offset(const struct depthwise *a, struct plane p, int i, int j) {
    return ((i % a->stride) * a->stride + j % a->stride) * p.size + i / a->stride * p.row + j / a->stride;
}

/* Copy an image into zeroed phases (`into`) or phases into an image. */
static void phases(const struct depthwise *a, struct plane p, float *image, float *phase, int into) {
    int64_t pad = a->kernel / 2, stride = a->stride;
    for (int64_t h = 0; h < a->height; h++) {
        int64_t row = (h + pad) / stride;
        if (row >= p.rows) break;
        for (int64_t part = 0; part < stride; part++) { /* columns whose place in the padded image is part, modulo stride */
            float *line = phase + (((h + pad) % stride) * stride + part) * p.size + row * p.row;
            int64_t first = (part - pad % stride + stride) % stride;
            int64_t column = (first + pad) / stride;
            int64_t many = first < a->width ? (a->width - first + stride - 1) / stride : 0;
            many = many > p.row - column ? p.row - column : many;
            float *pixel = image + h * a->width + first;
            if (into) {
                if (stride == 1) memcpy(line + column, pixel, (size_t)many * sizeof(float));
                else for (int64_t w = 0; w < many; w++) line[column + w] = pixel[w * stride];
            } else {
                if (stride == 1) memcpy(pixel, line + column, (size_t)many * sizeof(float));
                else for (int64_t w = 0; w < many; w++) pixel[w * stride] = line[column + w];
            }
        }
    }
}

/* out[t] = sum over k of weight[k] * from[k][t] */
static void combine(float *restrict out, const float *const *from, const float *weight, int taps, int64_t length) {
    if (taps == 9) {
        const float *a = from[0], *b = from[1], *c = from[2], *d = from[3], *e = from[4], *f = from[5], *g = from[6],
                    *h = from[7], *i = from[8];
        float wa = weight[0], wb = weight[1], wc = weight[2], wd = weight[3], we = weight[4], wf = weight[5],
              wg = weight[6], wh = weight[7], wi = weight[8];
#pragma omp simd
        for (int64_t t = 0; t < length; t++)
            out[t] = wa * a[t] + wb * b[t] + wc * c[t] + wd * d[t] + we * e[t] + wf * f[t] + wg * g[t] + wh * h[t] +
                     wi * i[t];
        return;
    }
    memset(out, 0, (size_t)length * sizeof(float));
    for (int k = 0; k < taps; k++) {
        const float *restrict one = from[k];
        float w = weight[k];
#pragma omp simd
        for (int64_t t = 0; t < length; t++) out[t] += w * one[t];
    }
}

/* sums[k] += sum over t of d[t] * from[k][t] */
static void correlate(double *sums, const float *restrict d, const float *const *from, int taps, int64_t length) {
    int k = 0;
    for (; k + 3 <= taps; k += 3) {
        const float *a = from[k], *b = from[k + 1], *c = from[k + 2];
        float sa = 0, sb = 0, sc = 0;
#pragma omp simd reduction(+ : sa, sb, sc)
        for (int64_t t = 0; t < length; t++) {
            sa += d[t] * a[t];
            sb += d[t] * b[t];
            sc += d[t] * c[t];
        }
        sums[k] += sa, sums[k + 1] += sb, sums[k + 2] += sc;
    }
    for (; k < taps; k++) {
        const float *a = from[k];
        float s = 0;
#pragma omp simd reduction(+ : s)
        for (int64_t t = 0; t < length; t++) s += d[t] * a[t];
        sums[k] += s;
    }
}

static float *zeros(int64_t floats) {
    return memset(scratch(PLANES, floats), 0, (size_t)floats * sizeof(float));
}

static void forward_piece(void *arguments, int64_t piece) {
    struct depthwise *a = arguments;
    struct plane p = geometry(a);
    int taps = a->kernel * a->kernel, count = a->stride * a->stride;
    float *phase = zeros((count + 1) * p.size), *flat = phase + count * p.size;
    const float *from[64];
    for (int k = 0; k < taps; k++) from[k] = phase + offset(a, p, k / a->kernel, k % a->kernel);
    for (int64_t n = 0; n < a->batch; n++) {
        int64_t at = n * a->channels + piece;
        phases(a, p, (float *)a->x + at * a->height * a->width, phase, 1);
        combine(flat, from, a->weight + piece * taps, taps, p.length);
        float *y = a->y + at * a->out_height * a->out_width;
        for (int64_t h = 0; h < a->out_height; h++)
            memcpy(y + h * a->out_width, flat + h * p.row, (size_t)a->out_width * sizeof(float));
    }
}

static void backward_piece(void *arguments, int64_t piece) {
    struct depthwise *a = arguments;
    struct plane p = geometry(a);
    int taps = a->kernel * a->kernel, count = a->stride * a->stride;
    /* phases of x, phases of dx, dy with rows as long as a phase's and as many zeros before it as taps reach back */
    int64_t before = offset(a, p, a->kernel - 1, a->kernel - 1) % p.size;
    float *phase = zeros(2 * count * p.size + p.size + 2 * before);
    float *slope = phase + count * p.size, *d = slope + count * p.size + before;
    const float *from[64], *at_tap[64];
    float turned[64];
    double sums[64] = {0};
    for (int k = 0; k < taps; k++) from[k] = phase + offset(a, p, k / a->kernel, k % a->kernel);
    const float *weight = a->weight + piece * taps;
    for (int64_t n = 0; n < a->batch; n++) {
        int64_t at = n * a->channels + piece;
        const float *dy = a->dy + at * a->out_height * a->out_width;
        for (int64_t h = 0; h < a->out_height; h++)
            memcpy(d + h * p.row, dy + h * a->out_width, (size_t)a->out_width * sizeof(float));
        phases(a, p, (float *)a->x + at * a->height * a->width, phase, 1);
        correlate(sums, d, from, taps, p.length);
        for (int part = 0; part < count; part++) { /* each phase gathers from the outputs that read it */
            int many = 0;
            for (int k = 0; k < taps; k++) {
                int i = k / a->kernel, j = k % a->kernel;
                if ((i % a->stride) * a->stride + j % a->stride != part) continue;
                at_tap[many] = d - offset(a, p, i, j) % p.size;
                turned[many++] = weight[k];
            }
            combine(slope + part * p.size, at_tap, turned, many, p.rows * p.row);
        }
        phases(a, p, a->dx + at * a->height * a->width, slope, 0);
    }
    for (int k = 0; k < taps; k++) a->dweight[piece * taps + k] = (float)sums[k];
}

static struct depthwise describe(const int64_t *x, const int64_t *weight, int stride) {
    struct depthwise a = {.batch = x[0], .channels = x[1], .height = x[2], .width = x[3], .stride = stride};
    a.kernel = (int)weight[2];
    a.out_height = (x[2] - 1) / stride + 1;
    a.out_width = (x[3] - 1) / stride + 1;
    return a;
}

/* (x [N, C, H, W], weight [C, 1, k, k]) to y; (x, weight, dy) to (dx, dweight). k is at most 7. */
#define DEPTHWISE(stride) \
    KERNEL(depthwise_##stride) { \
        struct depthwise a = describe(shapes[0], shapes[1], stride); \
        a.x = data[0], a.weight = data[1], a.y = data[2]; \
        run_pieces(forward_piece, &a, a.channels); \
        DONE; \
    } \
    KERNEL(depthwise_##stride##_gradient) { \
        struct depthwise a = describe(shapes[0], shapes[1], stride); \
        a.x = data[0], a.weight = data[1], a.dy = data[2], a.dx = data[3], a.dweight = data[4]; \
        run_pieces(backward_piece, &a, a.channels); \
        DONE; \
    }

DEPTHWISE(1)
DEPTHWISE(2)
