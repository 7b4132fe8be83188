/* Channels: credit, order, ownership, and many senders at once. */
#include <stdatomic.h>
#include <stdlib.h>

#include "cdc/base/check.h"
#include "cdc/base/clock.h"
#include "cdc/base/task.h"
#include "engine/channel.h"
#include "tests/unit/kit.h"

static atomic_int freed;
static void count_free(void *body) {
    atomic_fetch_add(&freed, 1);
    free(body);
}
static int *number(int n) {
    int *p = xmalloc(sizeof *p);
    *p = n;
    return p;
}
static int take_number(struct channel *c) {
    int *p = channel_take(c);
    int n = p ? *p : -1;
    free(p);
    return n;
}

TEST(channel_gives_messages_back_in_order_and_counts_bytes) {
    struct inbox *inbox = inbox_new();
    struct metrics metrics = { 0 };
    struct channel *c = channel_new(inbox, 100, &metrics);
    EXPECT_EQ_INT(channel_send(c, number(1), 40, count_free, 0), CHANNEL_SENT);
    EXPECT_EQ_INT(channel_send(c, number(2), 60, count_free, 0), CHANNEL_SENT);
    EXPECT_EQ_INT(metric_get(&metrics, METRIC_CHANNEL_BYTES), 100);
    EXPECT_EQ_INT(take_number(c), 1);
    EXPECT_EQ_INT(channel_bytes(c), 60);
    EXPECT_EQ_INT(take_number(c), 2);
    EXPECT_EQ_INT(take_number(c), -1);
    EXPECT_EQ_INT(metric_get(&metrics, METRIC_CHANNEL_BYTES), 0);
    channel_free(c);
    inbox_free(inbox);
}

TEST(channel_refuses_beyond_its_credit_and_leaves_the_message_to_the_caller) {
    struct inbox *inbox = inbox_new();
    struct channel *c = channel_new(inbox, 100, NULL);
    int *second = number(2);
    channel_send(c, number(1), 100, count_free, 0);
    EXPECT_EQ_INT(channel_send(c, second, 1, count_free, clock_mono_us() + 1000), CHANNEL_TIMEOUT);
    EXPECT_EQ_INT(*second, 2);
    EXPECT_EQ_INT(take_number(c), 1);
    EXPECT_EQ_INT(channel_send(c, second, 1, count_free, 0), CHANNEL_SENT);
    channel_free(c);
    inbox_free(inbox);
}

TEST(channel_lets_one_oversized_message_in_when_it_is_empty) {
    struct inbox *inbox = inbox_new();
    struct channel *c = channel_new(inbox, 10, NULL);
    EXPECT_EQ_INT(channel_send(c, number(1), 1000, count_free, 0), CHANNEL_SENT);
    int *second = number(2);
    EXPECT_EQ_INT(channel_send(c, second, 1, count_free, 0), CHANNEL_TIMEOUT);
    EXPECT_EQ_INT(take_number(c), 1);
    EXPECT_EQ_INT(channel_send(c, second, 5, count_free, 0), CHANNEL_SENT);
    int *third = number(3);
    EXPECT_EQ_INT(channel_send(c, third, 1000, count_free, 0), CHANNEL_TIMEOUT);
    free(third);
    channel_free(c);
    inbox_free(inbox);
}

TEST(channel_closed_refuses_sends_and_still_gives_what_it_has) {
    struct inbox *inbox = inbox_new();
    struct channel *c = channel_new(inbox, 100, NULL);
    atomic_store(&freed, 0);
    channel_send(c, number(1), 1, count_free, 0);
    channel_close(c);
    EXPECT_EQ_INT(channel_send(c, number(2), 1, count_free, 0), CHANNEL_CLOSED);
    EXPECT_EQ_INT(atomic_load(&freed), 1);
    EXPECT_EQ_INT(take_number(c), 1);
    channel_free(c);
    inbox_free(inbox);
}

TEST(channel_aborted_frees_what_it_has) {
    struct inbox *inbox = inbox_new();
    struct channel *c = channel_new(inbox, 100, NULL);
    atomic_store(&freed, 0);
    channel_send(c, number(1), 1, count_free, 0);
    channel_send(c, number(2), 1, count_free, 0);
    channel_abort(c);
    EXPECT_EQ_INT(atomic_load(&freed), 2);
    EXPECT_TRUE(channel_take(c) == NULL);
    channel_free(c);
    inbox_free(inbox);
}

TEST(inbox_hears_of_every_channel_once) {
    struct inbox *inbox = inbox_new();
    struct channel *a = channel_new(inbox, 100, NULL), *b = channel_new(inbox, 100, NULL);
    EXPECT_TRUE(!inbox_wait(inbox, clock_mono_us()));
    channel_send(b, number(1), 1, count_free, 0);
    EXPECT_TRUE(inbox_wait(inbox, clock_mono_us() + US_PER_S));
    EXPECT_TRUE(!inbox_wait(inbox, clock_mono_us()));
    inbox_poke(inbox);
    EXPECT_TRUE(inbox_wait(inbox, clock_mono_us() + US_PER_S));
    channel_free(a);
    channel_free(b);
    inbox_free(inbox);
}

#define SENDERS 4
#define EACH 2000
struct sender {
    struct channel *channel;
    int number;
    enum channel_result last;
};
static void send_many(void *arg) {
    struct sender *s = arg;
    for (int i = 0; i < EACH; i++) {
        s->last = channel_send(s->channel, number(s->number * EACH + i), 8, count_free,
                               clock_mono_us() + 60 * US_PER_S);
    }
}

TEST(channel_carries_every_message_of_many_senders_in_each_ones_order) {
    struct inbox *inbox = inbox_new();
    struct channel *c = channel_new(inbox, 64, NULL); /* eight messages: the senders must wait */
    struct sender senders[SENDERS];
    struct task *tasks[SENDERS];
    for (int i = 0; i < SENDERS; i++) {
        senders[i] = (struct sender){ .channel = c, .number = i };
        tasks[i] = task_start("sender", send_many, &senders[i]);
    }
    int next[SENDERS] = { 0 }, got = 0;
    bool in_order = true, alive = true;
    while (got < SENDERS * EACH && alive) {
        int n = take_number(c);
        if (n < 0) {
            alive = inbox_wait(inbox, clock_mono_us() + 60 * US_PER_S);
            continue;
        }
        in_order = in_order && n % EACH == next[n / EACH];
        next[n / EACH]++;
        got++;
    }
    EXPECT_TRUE(in_order);
    EXPECT_EQ_INT(got, SENDERS * EACH);
    channel_abort(c);
    for (int i = 0; i < SENDERS; i++) {
        task_join(tasks[i]);
    }
    channel_free(c);
    inbox_free(inbox);
}

TEST(channel_aborted_wakes_senders_that_wait_for_credit) {
    struct inbox *inbox = inbox_new();
    struct channel *c = channel_new(inbox, 8, NULL);
    struct sender sender = { .channel = c };
    struct task *task = task_start("sender", send_many, &sender);
    inbox_wait(inbox, clock_mono_us() + 60 * US_PER_S);
    channel_abort(c);
    task_join(task);
    EXPECT_EQ_INT(sender.last, CHANNEL_CLOSED);
    channel_free(c);
    inbox_free(inbox);
}
