/* A few threads that share pieces of work. They look for work for some microseconds and then sleep: MindSpore's own
 * threads want the processors as well. */
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "common.h"

enum { MOST_THREADS = 64, LOOKS = 2000 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;  /* guards the fields of `work` while it changes */
static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;  /* one caller at a time */
static pthread_cond_t wake = PTHREAD_COND_INITIALIZER;
static atomic_int threads, generation, busy;
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

/* How many threads the next calls use, the caller's own among them. Threads once started stay. */
void set_threads(int wanted) {
    pthread_mutex_lock(&turn);
    if (owner != getpid()) { /* a forked child has none of its parent's threads */
        owner = getpid();
        atomic_store(&threads, 1);
    }
    wanted = wanted > MOST_THREADS ? MOST_THREADS : wanted;
    while (atomic_load(&threads) < wanted) {
        pthread_t thread;
        if (pthread_create(&thread, 0, worker, (void *)(intptr_t)atomic_load(&generation))) break;
        pthread_detach(thread);
        atomic_fetch_add(&threads, 1);
    }
    pthread_mutex_unlock(&turn);
}

void run_pieces(piece_function function, void *arguments, int64_t pieces) {
    pthread_mutex_lock(&turn);
    int helpers = owner == getpid() ? atomic_load(&threads) - 1 : 0;
    work.function = function;
    work.arguments = arguments;
    work.pieces = pieces;
    atomic_store(&work.next, 0);
    if (helpers > 0 && pieces > 1) {
        atomic_store(&busy, helpers);
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
