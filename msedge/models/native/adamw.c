/* AdamW (Loshchilov and Hutter, arXiv:1711.05101) on a list of tensors, in place, behind clipping by their global norm. */
#include "common.h"

enum { BLOCK = 1 << 14 }; /* elements of one partial sum: its borders do not depend on the threads */

enum { RATE, DECAY, BETA1, BETA2, EPS, LIMIT };

struct list {
    float **values, **first, **second, **gradients;
    const int64_t *sizes;
    const float *settings, *decays, *rates;
    double *sums;
    float factor;
};

static void square_piece(void *arguments, int64_t piece) {
    struct list *a = arguments;
    const float *g = a->gradients[piece];
    double total = 0;
    for (int64_t start = 0; start < a->sizes[piece]; start += BLOCK) {
        int64_t end = start + BLOCK < a->sizes[piece] ? start + BLOCK : a->sizes[piece];
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t i = start; i < end; i++) sum += g[i] * g[i];
        total += sum;
    }
    a->sums[piece] = total;
}

static void update_piece(void *arguments, int64_t piece) {
    struct list *a = arguments;
    float *p = a->values[piece], *m = a->first[piece], *v = a->second[piece];
    const float *gradient = a->gradients[piece], *s = a->settings;
    float rate = s[RATE] * a->rates[piece], decay = s[DECAY] * a->decays[piece], beta1 = s[BETA1], beta2 = s[BETA2], eps = s[EPS];
    float factor = a->factor;
#pragma omp simd
    for (int64_t i = 0; i < a->sizes[piece]; i++) {
        float g = gradient[i] * factor;
        m[i] = beta1 * m[i] + (1.0f - beta1) * g;
        v[i] = beta2 * v[i] + (1.0f - beta2) * g * g;
        p[i] -= rate * (m[i] / (sqrtf(v[i]) + eps) + decay * p[i]);
    }
}

/* ([rate, decay, beta1, beta2, eps, limit], decays [n], rates [n], n values, n first moments, n second moments, n gradients)
 * to the norm of the gradients [1]. `rate` holds the corrections of the moments; decays and rates: each tensor's share.
 * A limit above 0 scales the gradients so that their norm is at most the limit (plus 1e-6). */
KERNEL(adamw) {
    int many = (count - 4) / 4;
    int64_t sizes[many];
    double sums[many], total = 0;
    float **lists = (float **)data + 3;
    for (int i = 0; i < many; i++) sizes[i] = elements(shapes[i + 3], ranks[i + 3]);
    struct list a = {.values = lists, .first = lists + many, .second = lists + 2 * many, .gradients = lists + 3 * many,
                     .sizes = sizes, .settings = data[0], .decays = data[1], .rates = data[2], .sums = sums, .factor = 1};
    run_pieces(square_piece, &a, many);
    for (int i = 0; i < many; i++) total += sums[i];
    float norm = (float)sqrt(total), limit = a.settings[LIMIT];
    if (limit > 0 && !(norm + 1e-6f <= limit)) a.factor = limit / (norm + 1e-6f);
    run_pieces(update_piece, &a, many);
    *(float *)data[count - 1] = norm;
    DONE;
}
