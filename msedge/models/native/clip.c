/* Clipping by the global norm of a list of tensors. */
#include "common.h"

enum { BLOCK = 1 << 14 }; /* elements of one partial sum: its borders do not depend on the threads */

struct list {
    float **from, **to;
    const int64_t *sizes;
    double *sums;
    float factor;
};

static void square_piece(void *arguments, int64_t piece) {
    struct list *a = arguments;
    double total = 0;
    for (int64_t start = 0; start < a->sizes[piece]; start += BLOCK) {
        int64_t end = start + BLOCK < a->sizes[piece] ? start + BLOCK : a->sizes[piece];
        const float *x = a->from[piece];
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t i = start; i < end; i++) sum += x[i] * x[i];
        total += sum;
    }
    a->sums[piece] = total;
}

static void scale_piece(void *arguments, int64_t piece) {
    struct list *a = arguments;
    const float *x = a->from[piece];
    float *y = a->to[piece], factor = a->factor;
#pragma omp simd
    for (int64_t i = 0; i < a->sizes[piece]; i++) y[i] = x[i] * factor;
}

/* ([limit], tensors ...) to the tensors, each times min(1, limit / (norm of all + 1e-6)). */
KERNEL(clip_by_norm) {
    int many = (count - 1) / 2;
    int64_t sizes[many];
    double sums[many], total = 0;
    for (int i = 0; i < many; i++) sizes[i] = elements(shapes[i + 1], ranks[i + 1]);
    struct list a = {.from = (float **)data + 1, .to = (float **)data + 1 + many, .sizes = sizes, .sums = sums};
    run_pieces(square_piece, &a, many);
    for (int i = 0; i < many; i++) total += sums[i];
    float limit = *(float *)data[0], factor = limit / ((float)sqrt(total) + 1e-6f);
    a.factor = factor < 1.0f ? factor : 1.0f;
    run_pieces(scale_piece, &a, many);
    DONE;
}
