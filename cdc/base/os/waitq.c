/* The product's build of waitq.h: a mutex and a condition variable on the monotonic clock. The only
 * place besides task.c that uses pthread. Never holds two locks, never calls out with one held.
 * Thread: any. */
#include "cdc/base/waitq.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "cdc/base/check.h"
#include "cdc/base/clock.h"

struct waitq {
    pthread_mutex_t mutex;
    pthread_cond_t cond;
};

struct waitq *waitq_new(void) {
    struct waitq *q = xmalloc(sizeof *q);
    pthread_condattr_t attributes;
    int failed = pthread_condattr_init(&attributes);
    failed |= pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    failed |= pthread_cond_init(&q->cond, &attributes);
    failed |= pthread_condattr_destroy(&attributes);
    failed |= pthread_mutex_init(&q->mutex, NULL);
    CHECK(!failed);
    return q;
}

void waitq_free(struct waitq *q) {
    if (q) {
        int failed = pthread_cond_destroy(&q->cond);
        failed |= pthread_mutex_destroy(&q->mutex);
        CHECK(!failed);
        free(q);
    }
}

void waitq_lock(struct waitq *q) {
    int failed = pthread_mutex_lock(&q->mutex);
    CHECK(!failed);
}

void waitq_unlock(struct waitq *q) {
    int failed = pthread_mutex_unlock(&q->mutex);
    CHECK(!failed);
}

bool waitq_wait(struct waitq *q, int64_t deadline_us) {
    int64_t at = deadline_us > 0 ? deadline_us : 0;
    struct timespec deadline = { .tv_sec = at / US_PER_S, .tv_nsec = at % US_PER_S * 1000 };
    int result = pthread_cond_timedwait(&q->cond, &q->mutex, &deadline);
    CHECK(result == 0 || result == ETIMEDOUT);
    return result == 0;
}

void waitq_wake_one(struct waitq *q) {
    int failed = pthread_cond_signal(&q->cond);
    CHECK(!failed);
}

void waitq_wake_all(struct waitq *q) {
    int failed = pthread_cond_broadcast(&q->cond);
    CHECK(!failed);
}
