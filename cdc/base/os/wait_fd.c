/* Waiting for a socket and a wake-up: an eventfd beside the socket in one ppoll. Several wakes
 * before a clear are one. */
#include "cdc/base/os/wait_fd.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "cdc/base/check.h"
#include "cdc/base/clock.h"

struct waker {
    int fd;
};

struct waker *waker_new(void) {
    struct waker *waker = xmalloc(sizeof *waker);
    waker->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (waker->fd < 0) {
        check_failed(__FILE__, __LINE__, "the system has a file descriptor left (ulimit -n)");
    }
    return waker;
}

void waker_free(struct waker *waker) {
    if (waker) {
        close(waker->fd);
        free(waker);
    }
}

void waker_wake(struct waker *waker) {
    uint64_t one = 1;
    ssize_t n = write(waker->fd, &one, sizeof one);
    CHECK(n == sizeof one || errno == EAGAIN); /* EAGAIN: woken 2^64 - 2 times, so it is woken */
}

void waker_clear(struct waker *waker) {
    uint64_t count;
    ssize_t n = read(waker->fd, &count, sizeof count);
    CHECK(n == sizeof count || errno == EAGAIN); /* EAGAIN: was not woken */
}

int wait_fd(int fd, short poll_events, struct waker *waker, int64_t deadline_us) {
    struct pollfd fds[2] = { { .fd = fd, .events = poll_events },
                             { .fd = waker ? waker->fd : -1, .events = POLLIN } };
    for (;;) {
        int64_t now = clock_mono_us();
        int64_t left = deadline_us > now ? deadline_us - now : 0;
        struct timespec timeout = { .tv_sec = left / US_PER_S, .tv_nsec = left % US_PER_S * 1000 };
        int n = ppoll(fds, 2, &timeout, NULL);
        if (n < 0) {
            CHECK(errno == EINTR || errno == ENOMEM || errno == EAGAIN);
            if (left == 0) {
                return 0;
            }
            continue;
        }
        CHECK(!(fds[0].revents & POLLNVAL) && !(fds[1].revents & POLLNVAL));
        if (n > 0 || left == 0) {
            return (fds[0].revents ? WAIT_FD_READY : 0) | (fds[1].revents ? WAIT_FD_WOKEN : 0);
        }
    }
}
