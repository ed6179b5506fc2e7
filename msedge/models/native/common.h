/* Shared by the kernels: MindSpore's calling convention for compiled custom operators, threads, vector functions.
 *
 * Every exported function has the signature that MindSpore calls ("aot" custom operators): inputs, then outputs, as
 * pointers to contiguous float32 data with their shapes. Work is cut into pieces whose borders do not depend on the
 * number of threads, so that results do not either. */
#ifndef MSEDGE_COMMON_H
#define MSEDGE_COMMON_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>

#define KERNEL(name) \
    int name(int count, void **data, int *ranks, int64_t **shapes, const char **types, void *stream, void *extra)
#define DONE return (void)count, (void)ranks, (void)shapes, (void)types, (void)stream, (void)extra, 0

typedef void (*piece_function)(void *arguments, int64_t piece);

/* Call function(arguments, piece) for all pieces, each once, in any order, on all threads; returns when all are done. */
void run_pieces(piece_function function, void *arguments, int64_t pieces);

/* Memory for `floats` numbers that stays this thread's until it asks for the same use again; 64-byte aligned, not cleared.
 * Fresh memory for each call would cost more in page faults than many operators take. Never returns 0: it aborts. */
enum use { PACKED, PLANES, PARTS, LINES, SUMS, USES };
float *scratch(enum use use, int64_t floats);

/* The sum over the rows of x [rows, columns]. */
void sum_rows(const float *x, float *sums, int64_t rows, int64_t columns);

static inline int64_t elements(const int64_t *shape, int rank) {
    int64_t n = 1;
    for (int i = 0; i < rank; i++) n *= shape[i];
    return n;
}

/* exp within 2 ulp, in a form that compilers vectorise: 2^n * (a polynomial on [-ln2 / 2, ln2 / 2]). */
static inline float fast_exp(float x) {
    x = x < -87.0f ? -87.0f : x > 88.0f ? 88.0f : x;
    float n = x * 1.44269504f + 12582912.0f; /* adding 1.5 * 2^23 rounds to a whole number */
    n -= 12582912.0f;
    float r = x - n * 0.693359375f + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    union { int32_t i; float f; } scale = {((int32_t)n + 127) << 23};
    return p * scale.f;
}

static inline float sigmoid(float x) { return 1.0f / (1.0f + fast_exp(-x)); }

/* The distribution function and the density of the normal distribution, absolute error below 1e-7 (Abramowitz and
 * Stegun 7.1.26); both need the same exponential. */
static inline void normal(float x, float *below, float *density) {
    float z = fabsf(x) * 0.70710678f;
    float e = fast_exp(-z * z);
    float t = 1.0f / (1.0f + 0.3275911f * z);
    float tail = 0.5f * t * e *
        (0.254829592f + t * (-0.284496736f + t * (1.421413741f + t * (-1.453152027f + t * 1.061405429f))));
    *below = x > 0 ? 1.0f - tail : tail;
    *density = 0.39894228f * e;
}

enum { ACT_NONE, ACT_SILU, ACT_GELU };

static inline __attribute__((always_inline)) float act(int kind, float x) {
    if (kind == ACT_SILU) return x * sigmoid(x);
    if (kind == ACT_GELU) {
        float below, density;
        normal(x, &below, &density);
        return x * below;
    }
    return x;
}

/* The derivative of `act` at x. */
static inline __attribute__((always_inline)) float act_slope(int kind, float x) {
    if (kind == ACT_SILU) {
        float s = sigmoid(x);
        return s + x * s * (1.0f - s);
    }
    if (kind == ACT_GELU) {
        float below, density;
        normal(x, &below, &density);
        return below + x * density;
    }
    return 1.0f;
}

#endif
