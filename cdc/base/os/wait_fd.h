/* For connectors, which wait for a socket and for a wake-up by another task at once. The waitq
 * stays the one primitive between tasks; this is the edge where a task's other partner is a server.
 * Linked with the product only: the simulator has no sockets. */
#pragma once
#include <stdint.h>

struct waker;
struct waker *waker_new(void);
void waker_free(struct waker *waker); /* NULL is fine */
void waker_wake(struct waker *waker); /* Thread: any. Stays woken until cleared. */
void waker_clear(struct waker *waker);

enum {
    WAIT_FD_READY = 1, /* one of the asked events, or an error or hang-up, which the next read or
                          write will meet */
    WAIT_FD_WOKEN = 2, /* the waker is set; it is not cleared here */
};
/* Sleeps until fd has one of poll_events (POLLIN, POLLOUT of poll.h), the waker is woken, or the
 * deadline (clock_mono_us) has passed: a set of the bits above, 0 = deadline. A deadline in the
 * past looks once. fd may be -1 and waker NULL: not waited for. */
int wait_fd(int fd, short poll_events, struct waker *waker, int64_t deadline_us);
