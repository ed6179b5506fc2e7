/* BatchNorm over [N, C, H, W] with the statistics of the batch, and the activation behind it, in one pass each way.
 * A channel is one piece of work: its second reading comes out of the processor's cache. */
#include "common.h"

struct batch_norm {
    const float *x, *dy, *weight, *bias, *mean, *scale, *running_mean, *running_variance;
    float *y, *new_mean, *new_scale, *new_running_mean, *new_running_variance, *dweight, *dbias;
    int64_t batch, channels, area;
    float eps, momentum; /* `momentum`: the share of the new value in the running statistics */
};

static inline __attribute__((always_inline)) void forward_channel(void *arguments, int64_t c, int kind) {
    struct batch_norm *a = arguments;
    double sum = 0, squares = 0;
    for (int64_t n = 0; n < a->batch; n++) {
        const float *x = a->x + (n * a->channels + c) * a->area;
        float s = 0;
#pragma omp simd reduction(+ : s)
        for (int64_t i = 0; i < a->area; i++) s += x[i];
        sum += s;
    }
    double size = (double)(a->batch * a->area);
    float mean = (float)(sum / size);
    for (int64_t n = 0; n < a->batch; n++) {
        const float *x = a->x + (n * a->channels + c) * a->area;
        float s = 0;
#pragma omp simd reduction(+ : s)
        for (int64_t i = 0; i < a->area; i++) s += (x[i] - mean) * (x[i] - mean);
        squares += s;
    }
    float variance = (float)(squares / size);
    float scale = 1.0f / sqrtf(variance + a->eps);
    float factor = scale * a->weight[c], shift = a->bias[c] - mean * factor;
    for (int64_t n = 0; n < a->batch; n++) {
        const float *x = a->x + (n * a->channels + c) * a->area;
        float *y = a->y + (n * a->channels + c) * a->area;
#pragma omp simd
        for (int64_t i = 0; i < a->area; i++) y[i] = act(kind, x[i] * factor + shift);
    }
    a->new_mean[c] = mean;
    a->new_scale[c] = scale;
    float unbiased = (float)(squares / (size > 1 ? size - 1 : 1)), keep = 1.0f - a->momentum;
    a->new_running_mean[c] = keep * a->running_mean[c] + a->momentum * mean;
    a->new_running_variance[c] = keep * a->running_variance[c] + a->momentum * unbiased;
}

static inline __attribute__((always_inline)) void backward_channel(void *arguments, int64_t c, int kind) {
    struct batch_norm *a = arguments;
    float mean = a->mean[c], scale = a->scale[c];
    float factor = scale * a->weight[c], shift = a->bias[c] - mean * factor;
    double sum = 0, product = 0;
    for (int64_t n = 0; n < a->batch; n++) {
        const float *x = a->x + (n * a->channels + c) * a->area, *dy = a->dy + (n * a->channels + c) * a->area;
        float *dx = a->y + (n * a->channels + c) * a->area;
        float s = 0, p = 0;
#pragma omp simd reduction(+ : s, p)
        for (int64_t i = 0; i < a->area; i++) {
            float d = dy[i] * act_slope(kind, x[i] * factor + shift);
            dx[i] = d;
            s += d;
            p += d * ((x[i] - mean) * scale);
        }
        sum += s;
        product += p;
    }
    double size = (double)(a->batch * a->area);
    float constant = (float)(sum / size), slope = (float)(product / size) * scale;
    for (int64_t n = 0; n < a->batch; n++) {
        const float *x = a->x + (n * a->channels + c) * a->area;
        float *dx = a->y + (n * a->channels + c) * a->area;
#pragma omp simd
        for (int64_t i = 0; i < a->area; i++) dx[i] = factor * (dx[i] - constant - (x[i] - mean) * slope);
    }
    a->dbias[c] = (float)sum;
    a->dweight[c] = (float)product;
}

/* (x [N, C, H, W], weight [C], bias, running mean, running variance, [eps, momentum]) to
 * (y, mean [C], 1 / sqrt(variance + eps) [C], new running mean, new running variance). */
#define FORWARD(name, kind) \
    static void name##_piece(void *arguments, int64_t c) { forward_channel(arguments, c, kind); } \
    KERNEL(name) { \
        const int64_t *s = shapes[0]; \
        const float *constants = data[5]; \
        struct batch_norm a = {.x = data[0], .weight = data[1], .bias = data[2], .running_mean = data[3], \
                               .running_variance = data[4], .eps = constants[0], .momentum = constants[1], \
                               .y = data[6], .new_mean = data[7], .new_scale = data[8], .new_running_mean = data[9], \
                               .new_running_variance = data[10], .batch = s[0], .channels = s[1], .area = s[2] * s[3]}; \
        run_pieces(name##_piece, &a, a.channels); \
        DONE; \
    }

/* (x, weight, bias, mean, scale, dy) to (dx, dweight [C], dbias [C]). */
#define BACKWARD(name, kind) \
    static void name##_piece(void *arguments, int64_t c) { backward_channel(arguments, c, kind); } \
    KERNEL(name) { \
        const int64_t *s = shapes[0]; \
        struct batch_norm a = {.x = data[0], .weight = data[1], .bias = data[2], .mean = data[3], .scale = data[4], \
                               .dy = data[5], .y = data[6], .dweight = data[7], .dbias = data[8], \
                               .batch = s[0], .channels = s[1], .area = s[2] * s[3]}; \
        run_pieces(name##_piece, &a, a.channels); \
        DONE; \
    }

FORWARD(batch_norm_none, ACT_NONE)
FORWARD(batch_norm_silu, ACT_SILU)
FORWARD(batch_norm_gelu, ACT_GELU)
BACKWARD(batch_norm_none_gradient, ACT_NONE)
BACKWARD(batch_norm_silu_gradient, ACT_SILU)
BACKWARD(batch_norm_gelu_gradient, ACT_GELU)
