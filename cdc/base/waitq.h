/* The one primitive in which the product blocks: a lock and a queue of waiters.
 *
 * Two builds of this header exist: cdc/base/os (a pthread mutex and condition variable) and
 * tests/sim (fibers on virtual time). Everything that waits (channels, inboxes, budgets, timers) is
 * made of it, so the simulator runs the product's own objects. Deadlines are on clock_mono_us().
 * Every wait has a deadline.
 * Locks: a waitq's lock is a leaf; nobody holds two of them, and none is held across a door call.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

struct waitq;
struct waitq *waitq_new(void);
void waitq_free(struct waitq *q);
void waitq_lock(struct waitq *q);
void waitq_unlock(struct waitq *q);
/* Lock held. Releases it, sleeps until woken or the deadline, takes it again. False if the deadline
 * passed. Spurious wake-ups happen: callers loop on their condition. */
bool waitq_wait(struct waitq *q, int64_t deadline_us);
void waitq_wake_one(struct waitq *q); /* lock held or not */
void waitq_wake_all(struct waitq *q);
