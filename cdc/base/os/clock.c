/* The product's build of clock.h: the system's clocks and its random numbers. Thread: any. */
#include "cdc/base/clock.h"

#include <errno.h>
#include <sys/random.h>
#include <time.h>

#include "cdc/base/check.h"

static int64_t read_us(clockid_t clock) {
    struct timespec now;
    int failed = clock_gettime(clock, &now);
    CHECK(!failed);
    return (int64_t)now.tv_sec * US_PER_S + now.tv_nsec / 1000;
}

int64_t clock_mono_us(void) { return read_us(CLOCK_MONOTONIC); }

int64_t clock_wall_us(void) { return read_us(CLOCK_REALTIME); }

void clock_sleep_until_us(int64_t mono_deadline_us) {
    if (mono_deadline_us <= 0) {
        return;
    }
    struct timespec until = { .tv_sec = mono_deadline_us / US_PER_S,
                              .tv_nsec = mono_deadline_us % US_PER_S * 1000 };
    int result;
    do {
        result = clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
    } while (result == EINTR);
    CHECK(result == 0);
}

void rng_bytes(void *out, size_t len) {
    char *at = out;
    while (len > 0) {
        ssize_t n = getrandom(at, len, 0);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        CHECK(n > 0);
        at += n;
        len -= (size_t)n;
    }
}
