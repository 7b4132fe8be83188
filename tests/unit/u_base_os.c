/* The product's build of the primitives: waitq, task, clock, rng, wait_fd. Deadlines in the past
 * and far ahead stand in for sleeps. */
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "cdc/base/buf.h"
#include "cdc/base/clock.h"
#include "cdc/base/os/wait_fd.h"
#include "cdc/base/task.h"
#include "cdc/base/waitq.h"
#include "tests/unit/kit.h"

static int64_t far_ahead(void) { return clock_mono_us() + 60 * US_PER_S; }

TEST(waitq_wait_ends_at_its_deadline) {
    struct waitq *q = waitq_new();
    waitq_lock(q);
    EXPECT_TRUE(!waitq_wait(q, clock_mono_us() - 1));
    EXPECT_TRUE(!waitq_wait(q, 0));
    EXPECT_TRUE(!waitq_wait(q, INT64_MIN));
    int64_t deadline = clock_mono_us() + 20000;
    while (waitq_wait(q, deadline)) { /* spurious */
    }
    EXPECT_TRUE(clock_mono_us() >= deadline);
    waitq_unlock(q);
    waitq_free(q);
    waitq_free(NULL);
}

/* A queue of numbers with room for one, passed between tasks. */
struct slot {
    struct waitq *q;
    int value; /* 0 = empty */
    bool closed;
    long long sum;
    bool late;
};

static void consume(void *arg) {
    struct slot *slot = arg;
    waitq_lock(slot->q);
    int64_t deadline = far_ahead();
    while (!slot->closed || slot->value) {
        if (slot->value) {
            slot->sum += slot->value;
            slot->value = 0;
            waitq_wake_all(slot->q);
        } else if (!waitq_wait(slot->q, deadline)) {
            slot->late = true;
            break;
        }
    }
    waitq_unlock(slot->q);
}

TEST(waitq_passes_values_between_tasks) {
    enum { CONSUMERS = 3, VALUES = 3000 };
    struct slot slot = { .q = waitq_new() };
    struct task *tasks[CONSUMERS];
    for (int i = 0; i < CONSUMERS; i++) {
        tasks[i] = task_start("consume", consume, &slot);
    }
    int64_t deadline = far_ahead();
    for (int i = 1; i <= VALUES; i++) {
        waitq_lock(slot.q);
        while (slot.value && EXPECT_TRUE(waitq_wait(slot.q, deadline))) {}
        slot.value = i;
        waitq_unlock(slot.q);
        waitq_wake_all(slot.q); /* without the lock */
    }
    waitq_lock(slot.q);
    slot.closed = true;
    waitq_wake_all(slot.q);
    waitq_unlock(slot.q);
    for (int i = 0; i < CONSUMERS; i++) {
        task_join(tasks[i]);
    }
    EXPECT_EQ_INT(slot.sum, (long long)VALUES * (VALUES + 1) / 2);
    EXPECT_TRUE(!slot.late);
    waitq_free(slot.q);
}

TEST(waitq_wake_one_reaches_a_waiter_whatever_its_deadline) {
    struct slot slot = { .q = waitq_new() };
    struct task *task = task_start("consume", consume, &slot);
    waitq_lock(slot.q);
    slot.value = 5;
    slot.closed = true;
    waitq_wake_one(slot.q);
    while (slot.value) { /* the other side wakes us; INT64_MAX is a deadline like any other */
        EXPECT_TRUE(waitq_wait(slot.q, INT64_MAX));
    }
    waitq_unlock(slot.q);
    task_join(task);
    EXPECT_EQ_INT(slot.sum, 5);
    waitq_free(slot.q);
}

struct task_seen {
    char name[16];
    bool term_blocked;
};

static void look_around(void *arg) {
    struct task_seen *seen = arg;
    sigset_t blocked;
    pthread_getname_np(pthread_self(), seen->name, sizeof seen->name);
    pthread_sigmask(SIG_SETMASK, NULL, &blocked);
    seen->term_blocked = sigismember(&blocked, SIGTERM) && sigismember(&blocked, SIGINT);
}

TEST(task_has_its_name_and_no_signals) {
    struct task_seen seen = { .name = "" };
    sigset_t before;
    sigset_t after;
    sigprocmask(SIG_SETMASK, NULL, &before);
    task_join(task_start("fifteen letters", look_around, &seen));
    sigprocmask(SIG_SETMASK, NULL, &after);
    EXPECT_EQ_STR(seen.name, "fifteen letters");
    EXPECT_TRUE(seen.term_blocked);
    EXPECT_EQ_INT(sigismember(&after, SIGTERM), sigismember(&before, SIGTERM));
}

TEST(clock_goes_forward_and_sleeps_until) {
    int64_t start = clock_mono_us();
    clock_sleep_until_us(start + 15000);
    EXPECT_TRUE(clock_mono_us() >= start + 15000);
    clock_sleep_until_us(start); /* past: at once */
    clock_sleep_until_us(-5);
    EXPECT_TRUE(clock_wall_us() > INT64_C(1700000000) * US_PER_S);
    char text[32];
    clock_format_wall(clock_wall_us(), text);
    EXPECT_EQ_INT(strlen(text), 24);
}

TEST(rng_fills_all_of_it_and_differs) {
    uint8_t a[1000] = { 0 };
    uint8_t b[1000] = { 0 };
    rng_bytes(a, sizeof a);
    rng_bytes(b, sizeof b);
    rng_bytes(NULL, 0);
    EXPECT_TRUE(memcmp(a, b, sizeof a) != 0);
    size_t zeroes = 0;
    for (size_t i = 0; i < sizeof a; i++) {
        zeroes += a[i] == 0;
    }
    EXPECT_TRUE(zeroes < 40); /* 4 expected */
    static const uint8_t none[16];
    EXPECT_TRUE(memcmp(a + sizeof a - 16, none, 16) != 0);
}

static void wake(void *arg) { waker_wake(arg); }

TEST(wait_fd_tells_data_wake_up_and_deadline_apart) {
    int fds[2];
    CHECK(pipe(fds) == 0);
    struct waker *waker = waker_new();
    EXPECT_EQ_INT(wait_fd(fds[0], POLLIN, waker, 0), 0);
    int64_t deadline = clock_mono_us() + 15000;
    EXPECT_EQ_INT(wait_fd(fds[0], POLLIN, waker, deadline), 0);
    EXPECT_TRUE(clock_mono_us() >= deadline);
    EXPECT_EQ_INT(wait_fd(fds[1], POLLOUT, waker, far_ahead()), WAIT_FD_READY);
    EXPECT_EQ_INT(write(fds[1], "x", 1), 1);
    EXPECT_EQ_INT(wait_fd(fds[0], POLLIN, waker, 0), WAIT_FD_READY);
    EXPECT_EQ_INT(wait_fd(fds[0], POLLIN, NULL, far_ahead()), WAIT_FD_READY);
    struct task *task = task_start("wake", wake, waker);
    EXPECT_TRUE(wait_fd(-1, 0, waker, far_ahead()) == WAIT_FD_WOKEN);
    task_join(task);
    waker_wake(waker); /* twice is once */
    EXPECT_EQ_INT(wait_fd(fds[0], POLLIN, waker, far_ahead()), WAIT_FD_READY | WAIT_FD_WOKEN);
    EXPECT_EQ_INT(wait_fd(-1, 0, waker, 0), WAIT_FD_WOKEN); /* until cleared */
    waker_clear(waker);
    waker_clear(waker);
    EXPECT_EQ_INT(wait_fd(-1, 0, waker, 0), 0);
    EXPECT_EQ_INT(wait_fd(fds[0], POLLIN, waker, INT64_MAX), WAIT_FD_READY);
    char c;
    EXPECT_EQ_INT(read(fds[0], &c, 1), 1);
    close(fds[1]);
    EXPECT_EQ_INT(wait_fd(fds[0], POLLIN, waker, far_ahead()),
                  WAIT_FD_READY); /* the other side hung up */
    close(fds[0]);
    waker_free(waker);
    waker_free(NULL);
}
