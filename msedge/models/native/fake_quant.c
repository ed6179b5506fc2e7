/* Fake quantisation: numbers rounded as an integer tensor would store them, and gradients straight through the rounding.
 *
 * A quantiser is [log of the scale, zero point / span]; limits are [lowest, highest stored number, span], span 2^bits, or 0
 * where the zero point is fixed at 0. Gradients by the quantiser are those of LSQ (arXiv:1902.08153) and LSQ+
 * (arXiv:2004.09576), by the logarithm of the scale (arXiv:1903.08066), times 1 / sqrt(elements * highest). */
#include "common.h"

enum { PIECES = 16, BLOCK = 4096 };

struct quantiser {
    float scale, low, high, span; /* low and high: of the stored number less the zero point */
};

static struct quantiser quantiser(const float *q, const float *limits) {
    struct quantiser a = {.scale = expf(q[0]), .span = limits[2]};
    float zero = rintf(q[1] * a.span);
    zero = zero < limits[0] ? limits[0] : zero > limits[1] ? limits[1] : zero;
    a.low = limits[0] - zero;
    a.high = limits[1] - zero;
    return a;
}

/* To the nearest whole number, halves to even, for |x| < 2^22. */
static inline float whole(float x) { return (x + 12582912.0f) - 12582912.0f; }

static inline float stored(float v, float low, float high) { return whole(v < low ? low : v > high ? high : v); }

static inline float faked(float x, struct quantiser a) { return stored(x / a.scale, a.low, a.high) * a.scale; }

/* The gradient by x, and what one element adds to those by log scale and zero point (both still without the scale). */
static inline float slope(float x, float dy, struct quantiser a, float *by_scale, float *by_zero) {
    float v = x / a.scale;
    int inside = v >= a.low && v <= a.high;
    *by_scale += dy * (stored(v, a.low, a.high) - (inside ? v : 0.0f));
    *by_zero -= inside ? 0.0f : dy;
    return inside ? dy : 0.0f;
}

static void write_gradient(float *dq, double by_scale, double by_zero, struct quantiser a, int64_t size, float highest) {
    double factor = a.scale / sqrt((double)size * highest);
    dq[0] = (float)(by_scale * factor);
    dq[1] = (float)(by_zero * factor * a.span);
}

struct whole_tensor {
    const float *x, *dy;
    float *y;
    int64_t size;
    struct quantiser q;
    double sums[PIECES][2];
};

static void tensor_piece(void *arguments, int64_t piece) {
    struct whole_tensor *a = arguments;
    const float *x = a->x;
    float *y = a->y;
    struct quantiser q = a->q;
#pragma omp simd
    for (int64_t i = a->size * piece / PIECES; i < a->size * (piece + 1) / PIECES; i++) y[i] = faked(x[i], q);
}

static void tensor_gradient_piece(void *arguments, int64_t piece) {
    struct whole_tensor *a = arguments;
    struct quantiser q = a->q;
    double by_scale = 0, by_zero = 0;
    int64_t last = a->size * (piece + 1) / PIECES;
    for (int64_t start = a->size * piece / PIECES; start < last; start += BLOCK) {
        int64_t many = last - start < BLOCK ? last - start : BLOCK;
        const float *x = a->x + start, *dy = a->dy + start;
        float *dx = a->y + start, s = 0, z = 0;
#pragma omp simd reduction(+ : s, z)
        for (int64_t i = 0; i < many; i++) dx[i] = slope(x[i], dy[i], q, &s, &z);
        by_scale += s;
        by_zero += z;
    }
    a->sums[piece][0] = by_scale;
    a->sums[piece][1] = by_zero;
}

/* (x, quantiser [2], limits [3]) to x rounded. */
KERNEL(fake_quantize) {
    struct whole_tensor a = {.x = data[0], .q = quantiser(data[1], data[2]), .y = data[3],
                             .size = elements(shapes[0], ranks[0])};
    run_pieces(tensor_piece, &a, PIECES);
    DONE;
}

/* (x, quantiser, limits, dy) to (dx, gradient by the quantiser). */
KERNEL(fake_quantize_gradient) {
    struct whole_tensor a = {.x = data[0], .q = quantiser(data[1], data[2]), .dy = data[3], .y = data[4],
                             .size = elements(shapes[0], ranks[0])};
    run_pieces(tensor_gradient_piece, &a, PIECES);
    double by_scale = 0, by_zero = 0;
    for (int i = 0; i < PIECES; i++) by_scale += a.sums[i][0], by_zero += a.sums[i][1];
    write_gradient(data[5], by_scale, by_zero, a.q, a.size, ((float *)data[2])[1]);
    DONE;
}

struct maps { /* [N, C, H, W] with a bias for each channel; a channel is one piece of work */
    const float *x, *bias, *dy;
    float *y, *dbias, *sums; /* `sums`: [C, 2] */
    int64_t batch, channels, area;
    struct quantiser q;
};

static void maps_piece(void *arguments, int64_t c) {
    struct maps *a = arguments;
    struct quantiser q = a->q;
    float bias = a->bias[c];
    for (int64_t n = 0; n < a->batch; n++) {
        const float *x = a->x + (n * a->channels + c) * a->area;
        float *y = a->y + (n * a->channels + c) * a->area;
#pragma omp simd
        for (int64_t i = 0; i < a->area; i++) y[i] = faked(x[i] + bias, q);
    }
}

static void maps_gradient_piece(void *arguments, int64_t c) {
    struct maps *a = arguments;
    struct quantiser q = a->q;
    float bias = a->bias[c];
    double by_bias = 0, by_scale = 0, by_zero = 0;
    for (int64_t n = 0; n < a->batch; n++) {
        const float *x = a->x + (n * a->channels + c) * a->area, *dy = a->dy + (n * a->channels + c) * a->area;
        float *dx = a->y + (n * a->channels + c) * a->area, b = 0, s = 0, z = 0;
#pragma omp simd reduction(+ : b, s, z)
        for (int64_t i = 0; i < a->area; i++) {
            float d = slope(x[i] + bias, dy[i], q, &s, &z);
            dx[i] = d;
            b += d;
        }
        by_bias += b;
        by_scale += s;
        by_zero += z;
    }
    a->dbias[c] = (float)by_bias;
    a->sums[2 * c] = (float)by_scale;
    a->sums[2 * c + 1] = (float)by_zero;
}

/* (x [N, C, H, W], bias [C], quantiser, limits) to x + bias rounded. */
KERNEL(bias_fake_quantize) {
    const int64_t *s = shapes[0];
    struct maps a = {.x = data[0], .bias = data[1], .q = quantiser(data[2], data[3]), .y = data[4], .batch = s[0],
                     .channels = s[1], .area = s[2] * s[3]};
    run_pieces(maps_piece, &a, a.channels);
    DONE;
}

/* (x, bias, quantiser, limits, dy) to (dx, dbias, gradient by the quantiser). */
KERNEL(bias_fake_quantize_gradient) {
    const int64_t *s = shapes[0];
    struct maps a = {.x = data[0], .bias = data[1], .q = quantiser(data[2], data[3]), .dy = data[4], .y = data[5],
                     .dbias = data[6], .batch = s[0], .channels = s[1], .area = s[2] * s[3]};
    a.sums = scratch(SUMS, 2 * a.channels);
    run_pieces(maps_gradient_piece, &a, a.channels);
    double by_scale = 0, by_zero = 0;
    for (int64_t c = 0; c < a.channels; c++) by_scale += a.sums[2 * c], by_zero += a.sums[2 * c + 1];
    write_gradient(data[7], by_scale, by_zero, a.q, a.batch * a.channels * a.area, ((float *)data[3])[1]);
    DONE;
}

static void channel_sums_piece(void *arguments, int64_t c) {
    struct maps *a = arguments;
    double sum = 0;
    for (int64_t n = 0; n < a->batch; n++) {
        const float *dy = a->dy + (n * a->channels + c) * a->area;
        float s = 0;
#pragma omp simd reduction(+ : s)
        for (int64_t i = 0; i < a->area; i++) s += dy[i];
        sum += s;
    }
    a->dbias[c] = (float)sum;
}

/* x [N, C, H, W] to its sums over N, H and W [C]; the second input gives the result its shape. */
KERNEL(channel_sums) {
    const int64_t *s = shapes[0];
    struct maps a = {.dy = data[0], .dbias = data[2], .batch = s[0], .channels = s[1], .area = s[2] * s[3]};
    run_pieces(channel_sums_piece, &a, a.channels);
    DONE;
}

struct stored { /* x plus a bias for each channel, stored, behind an activation function, and stored again if `twice` */
    const float *x, *bias, *dy;
    float *y, *dbias, *sums; /* `sums`: [C, 4] */
    int64_t batch, channels, area;
    struct quantiser first, second;
    int twice;
};

static inline __attribute__((always_inline)) void stored_channel(void *arguments, int64_t c, int kind) {
    struct stored *a = arguments;
    struct quantiser first = a->first, second = a->second;
    float bias = a->bias ? a->bias[c] : 0;
    for (int64_t n = 0; n < a->batch; n++) {
        const float *x = a->x + (n * a->channels + c) * a->area;
        float *y = a->y + (n * a->channels + c) * a->area;
        if (a->twice) {
#pragma omp simd
            for (int64_t i = 0; i < a->area; i++) y[i] = faked(act(kind, faked(x[i] + bias, first)), second);
        } else {
#pragma omp simd
            for (int64_t i = 0; i < a->area; i++) y[i] = act(kind, faked(x[i] + bias, first));
        }
    }
}

static inline __attribute__((always_inline)) void stored_gradient_channel(void *arguments, int64_t c, int kind) {
    struct stored *a = arguments;
    struct quantiser first = a->first, second = a->second;
    float bias = a->bias ? a->bias[c] : 0;
    double sums[5] = {0};
    for (int64_t n = 0; n < a->batch; n++) {
        const float *x = a->x + (n * a->channels + c) * a->area, *dy = a->dy + (n * a->channels + c) * a->area;
        float *dx = a->y + (n * a->channels + c) * a->area, b = 0, s = 0, z = 0, t = 0, w = 0;
        if (a->twice) {
#pragma omp simd reduction(+ : b, s, z, t, w)
            for (int64_t i = 0; i < a->area; i++) {
                float u = faked(x[i] + bias, first), d = slope(act(kind, u), dy[i], second, &t, &w);
                dx[i] = d = slope(x[i] + bias, d * act_slope(kind, u), first, &s, &z);
                b += d;
            }
        } else {
#pragma omp simd reduction(+ : b, s, z)
            for (int64_t i = 0; i < a->area; i++) {
                float d = slope(x[i] + bias, dy[i] * act_slope(kind, faked(x[i] + bias, first)), first, &s, &z);
                dx[i] = d;
                b += d;
            }
        }
        sums[0] += s, sums[1] += z, sums[2] += t, sums[3] += w, sums[4] += b;
    }
    for (int i = 0; i < 4; i++) a->sums[4 * c + i] = (float)sums[i];
    if (a->dbias) a->dbias[c] = (float)sums[4];
}

/* `at`: where the quantisers stand among the data. Without a bias a row of the last axis is a channel. */
static struct stored stored_of(void **data, int *ranks, int64_t **shapes, int at) {
    const int64_t *s = shapes[0];
    const float *limits = data[at + 3];
    struct stored a = {.x = data[0], .first = quantiser(data[at], data[at + 1]), .second = quantiser(data[at + 2], limits),
                       .twice = limits[1] > 0, .batch = 1, .area = s[ranks[0] - 1]};
    if (at > 1) a.bias = data[1], a.batch = s[0], a.area = s[2] * s[3];
    a.channels = elements(s, ranks[0]) / (a.batch * a.area);
    return a;
}

static void stored_gradient(piece_function piece, void **data, int *ranks, int64_t **shapes, int at) {
    struct stored a = stored_of(data, ranks, shapes, at);
    double sums[4] = {0};
    int64_t size = elements(shapes[0], ranks[0]);
    a.dy = data[at + 4];
    a.y = data[at + 5];
    a.dbias = at > 1 ? data[at + 6] : 0;
    a.sums = scratch(SUMS, 4 * a.channels);
    run_pieces(piece, &a, a.channels);
    for (int64_t c = 0; c < a.channels; c++)
        for (int i = 0; i < 4; i++) sums[i] += a.sums[4 * c + i];
    float **dq = (float **)data + at + 5 + at;
    write_gradient(dq[0], sums[0], sums[1], a.first, size, ((float *)data[at + 1])[1]);
    dq[1][0] = dq[1][1] = 0;
    if (a.twice) write_gradient(dq[1], sums[2], sums[3], a.second, size, ((float *)data[at + 3])[1]);
}

/* stored_ACT: (x, quantiser, limits, second quantiser, its limits or zeros) to the result; _gradient: those and dy to (dx,
 * gradients by both quantisers). bias_stored_ACT: the same with x [N, C, H, W], and a bias [C] behind x and its gradient. */
#define STORED(name, kind) \
    static void stored_##name##_piece(void *arguments, int64_t c) { stored_channel(arguments, c, kind); } \
    static void stored_##name##_gradient_piece(void *arguments, int64_t c) { stored_gradient_channel(arguments, c, kind); } \
    KERNEL(stored_##name) { \
        struct stored a = stored_of(data, ranks, shapes, 1); \
        a.y = data[5]; \
        run_pieces(stored_##name##_piece, &a, a.channels); \
        DONE; \
    } \
    KERNEL(bias_stored_##name) { \
        struct stored a = stored_of(data, ranks, shapes, 2); \
        a.y = data[6]; \
        run_pieces(stored_##name##_piece, &a, a.channels); \
        DONE; \
    } \
    KERNEL(stored_##name##_gradient) { \
        stored_gradient(stored_##name##_gradient_piece, data, ranks, shapes, 1); \
        DONE; \
    } \
    KERNEL(bias_stored_##name##_gradient) { \
        stored_gradient(stored_##name##_gradient_piece, data, ranks, shapes, 2); \
        DONE; \
    }

STORED(silu, ACT_SILU)
STORED(gelu, ACT_GELU)

struct range {
    const float *x;
    int64_t size;
    float lows[PIECES], highs[PIECES];
};

static void range_piece(void *arguments, int64_t piece) {
    struct range *a = arguments;
    const float *x = a->x;
    float low = 0, high = 0;
#pragma omp simd reduction(min : low) reduction(max : high)
    for (int64_t i = a->size * piece / PIECES; i < a->size * (piece + 1) / PIECES; i++) {
        low = x[i] < low ? x[i] : low;
        high = x[i] > high ? x[i] : high;
    }
    a->lows[piece] = low;
    a->highs[piece] = high;
}

/* (x, range [lowest, highest number], limits, momentum [1]) to (the range moved towards that of x by the share `momentum`,
 * the quantiser that just covers it). Ranges always hold 0; where momentum is 0 none of x is read. */
KERNEL(observe) {
    struct range a = {.x = data[0], .size = elements(shapes[0], ranks[0])};
    const float *range = data[1], *limits = data[2];
    float momentum = *(float *)data[3], *moved = data[4], *q = data[5], low = 0, high = 0;
    moved[0] = range[0];
    moved[1] = range[1];
    if (momentum > 0) {
        run_pieces(range_piece, &a, PIECES);
        for (int i = 0; i < PIECES; i++) {
            low = a.lows[i] < low ? a.lows[i] : low;
            high = a.highs[i] > high ? a.highs[i] : high;
        }
        moved[0] += momentum * (low - range[0]);
        moved[1] += momentum * (high - range[1]);
    }
    float span = limits[2], reach = -moved[0] > moved[1] ? -moved[0] : moved[1];
    float scale = span > 0 ? (moved[1] - moved[0]) / (limits[1] - limits[0]) : reach / limits[1];
    scale = scale < 1e-8f ? 1e-8f : scale;
    q[0] = logf(scale);
    q[1] = span > 0 ? rintf(limits[0] - moved[0] / scale) / span : 0.0f;
    DONE;
}

struct rows {
    const float *x, *dy, *log_scale;
    float *y, *dlog_scale, high;
    int64_t columns, group, groups; /* a scale for `group` neighbours; the last group of a row may be shorter */
};

static void rows_piece(void *arguments, int64_t row) {
    struct rows *a = arguments;
    for (int64_t g = 0; g < a->groups; g++) {
        int64_t first = g * a->group, last = first + a->group < a->columns ? first + a->group : a->columns;
        const float *x = a->x + row * a->columns;
        float *y = a->y + row * a->columns;
        struct quantiser q = {.scale = expf(a->log_scale[row * a->groups + g]), .low = -a->high, .high = a->high};
#pragma omp simd
        for (int64_t i = first; i < last; i++) y[i] = faked(x[i], q);
    }
}

static void rows_gradient_piece(void *arguments, int64_t row) {
    struct rows *a = arguments;
    for (int64_t g = 0; g < a->groups; g++) {
        int64_t first = g * a->group, last = first + a->group < a->columns ? first + a->group : a->columns;
        const float *x = a->x + row * a->columns, *dy = a->dy + row * a->columns;
        float *dx = a->y + row * a->columns, s = 0, z = 0;
        struct quantiser q = {.scale = expf(a->log_scale[row * a->groups + g]), .low = -a->high, .high = a->high};
#pragma omp simd reduction(+ : s, z)
        for (int64_t i = first; i < last; i++) dx[i] = slope(x[i], dy[i], q, &s, &z);
        a->dlog_scale[row * a->groups + g] = (float)(s * q.scale / sqrt((double)(last - first) * q.high));
    }
}

static struct rows weight_rows(void **data, int *ranks, int64_t **shapes, const float *limits) {
    struct rows a = {.x = data[0], .log_scale = data[1], .high = limits[0]};
    a.columns = elements(shapes[0], ranks[0]) / shapes[0][0];
    a.group = limits[1] > 0 ? (int64_t)limits[1] : a.columns;
    a.groups = (a.columns + a.group - 1) / a.group;
    return a;
}

/* (weight [rows, ...], log of the scales [rows * groups], [highest stored number, group or 0]) to the weight rounded, from
 * -highest to highest. */
KERNEL(fake_weight) {
    struct rows a = weight_rows(data, ranks, shapes, data[2]);
    a.y = data[3];
    run_pieces(rows_piece, &a, shapes[0][0]);
    DONE;
}

/* (weight, log of the scales, limits, dy) to (dweight, gradient by the logs). */
KERNEL(fake_weight_gradient) {
    struct rows a = weight_rows(data, ranks, shapes, data[2]);
    a.dy = data[3];
    a.y = data[4];
    a.dlog_scale = data[5];
    run_pieces(rows_gradient_piece, &a, shapes[0][0]);
    DONE;
}
