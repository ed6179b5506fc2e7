/* A few threads that share pieces of work. They look for work for some microseconds and then sleep: MindSpore's own
 * threads want the processors as well. They keep off the processor of their caller: it wakes them, and where all processors
 * look busy Linux would run them there, behind the caller instead of beside it. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "common.h"

enum { MOST_THREADS = 64, LOOKS = 1000 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;  /* guards the fields of `work` while it changes */
static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;  /* one caller at a time */
static pthread_cond_t wake = PTHREAD_COND_INITIALIZER;
static atomic_int threads, generation, busy;
static pthread_t helpers[MOST_THREADS];
static pid_t owner;
static struct {
    piece_function function;
    void *arguments;
    int64_t pieces;
    atomic_llong next;
} work;

static void take_pieces(void) {
    int64_t piece;
    while ((piece = atomic_fetch_add(&work.next, 1)) < work.pieces) work.function(work.arguments, piece);
}

static inline void rest(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

static void *worker(void *first) {
    int seen = (int)(intptr_t)first;
    for (;;) {
        for (int look = 0; look < LOOKS && atomic_load(&generation) == seen; look++) rest();
        if (atomic_load(&generation) == seen) {
            pthread_mutex_lock(&lock);
            while (atomic_load(&generation) == seen) pthread_cond_wait(&wake, &lock);
            pthread_mutex_unlock(&lock);
        }
        seen++;
        take_pieces();
        atomic_fetch_sub(&busy, 1);
    }
    return 0;
}

#if defined(__linux__)
static cpu_set_t allowed;
static int avoided = -1; /* the processor that the helpers keep off */

static void keep_off(int processor, int count) {
    cpu_set_t others = allowed;
    if (processor < 0 || processor == avoided || !CPU_ISSET(processor, &allowed) || CPU_COUNT(&allowed) < 2) return;
    CPU_CLR(processor, &others);
    for (int i = 0; i < count; i++) pthread_setaffinity_np(helpers[i], sizeof others, &others);
    avoided = processor;
}

static void learn_processors(void) {
    avoided = -1;
    if (sched_getaffinity(0, sizeof allowed, &allowed)) CPU_ZERO(&allowed);
}
#else
static int sched_getcpu(void) { return -1; }
static void keep_off(int processor, int count) { (void)processor, (void)count; }
static void learn_processors(void) {}
#endif

/* How many threads the next calls use, the caller's own among them. Threads once started stay. */
void set_threads(int wanted) {
    pthread_mutex_lock(&turn);
    if (owner != getpid()) { /* a forked child has none of its parent's threads */
        owner = getpid();
        atomic_store(&threads, 1);
    }
    learn_processors();
    wanted = wanted > MOST_THREADS ? MOST_THREADS : wanted;
    while (atomic_load(&threads) < wanted) {
        pthread_t *thread = &helpers[atomic_load(&threads) - 1];
        if (pthread_create(thread, 0, worker, (void *)(intptr_t)atomic_load(&generation))) break;
        pthread_detach(*thread);
        atomic_fetch_add(&threads, 1);
    }
    pthread_mutex_unlock(&turn);
}

void run_pieces(piece_function function, void *arguments, int64_t pieces) {
    pthread_mutex_lock(&turn);
    int count = owner == getpid() ? atomic_load(&threads) - 1 : 0;
    work.function = function;
    work.arguments = arguments;
    work.pieces = pieces;
    atomic_store(&work.next, 0);
    if (count > 0 && pieces > 1) {
        keep_off(sched_getcpu(), count);
        atomic_store(&busy, count);
        pthread_mutex_lock(&lock);
        atomic_fetch_add(&generation, 1);
        pthread_cond_broadcast(&wake);
        pthread_mutex_unlock(&lock);
        take_pieces();
        while (atomic_load(&busy) > 0) rest();
    } else {
        take_pieces();
    }
    pthread_mutex_unlock(&turn);
}

float *scratch(enum use use, int64_t floats) {
    static _Thread_local float *kept[USES];
    static _Thread_local int64_t sizes[USES];
    if (floats > sizes[use]) {
        free(kept[use]);
        int64_t size = (floats + floats / 4 + 15) / 16 * 16;
        kept[use] = aligned_alloc(64, (size_t)size * sizeof(float));
        if (!kept[use]) {
            fprintf(stderr, "msedge: no memory for %lld numbers\n", (long long)size);
            abort();
        }
        sizes[use] = size;
    }
    return kept[use];
}
