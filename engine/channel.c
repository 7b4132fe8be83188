/* See channel.h. Senders that wait for credit and the receiver share the inbox's waitq: few tasks
 * meet at one inbox, so waking all of them costs less than a queue for each. */
#include "engine/channel.h"

#include <stdlib.h>

#include "cdc/base/check.h"
#include "cdc/base/waitq.h"

struct inbox {
    struct waitq *q;
    bool news;
    unsigned channels;
};

struct message {
    struct message *next;
    void *body;
    size_t bytes;
    void (*free_body)(void *);
};

struct channel {
    struct inbox *inbox;
    struct metrics *metrics;
    struct message *first;
    struct message **last;
    size_t bytes;
    size_t bytes_max;
    unsigned waiting; /* senders without credit */
    bool closed;
};

struct inbox *inbox_new(void) {
    struct inbox *inbox = xcalloc(1, sizeof *inbox);
    inbox->q = waitq_new();
    return inbox;
}

void inbox_free(struct inbox *inbox) {
    if (!inbox) {
        return;
    }
    CHECK(inbox->channels == 0);
    waitq_free(inbox->q);
    free(inbox);
}

bool inbox_wait(struct inbox *inbox, int64_t deadline_us) {
    waitq_lock(inbox->q);
    while (!inbox->news && waitq_wait(inbox->q, deadline_us)) {}
    bool news = inbox->news;
    inbox->news = false;
    waitq_unlock(inbox->q);
    return news;
}

void inbox_poke(struct inbox *inbox) {
    waitq_lock(inbox->q);
    inbox->news = true;
    waitq_wake_all(inbox->q);
    waitq_unlock(inbox->q);
}

struct channel *channel_new(struct inbox *inbox, size_t bytes_max, struct metrics *metrics) {
    struct channel *channel = xcalloc(1, sizeof *channel);
    channel->inbox = inbox;
    channel->metrics = metrics;
    channel->bytes_max = bytes_max;
    channel->last = &channel->first;
    waitq_lock(inbox->q);
    inbox->channels++;
    waitq_unlock(inbox->q);
    return channel;
}

void channel_free(struct channel *channel) {
    if (!channel) {
        return;
    }
    channel_abort(channel);
    waitq_lock(channel->inbox->q);
    CHECK(channel->waiting == 0);
    channel->inbox->channels--;
    waitq_unlock(channel->inbox->q);
    free(channel);
}

/* Lock held. */
static void channel_count(struct channel *channel, size_t bytes, bool in) {
    if (in) {
        channel->bytes += bytes;
    } else {
        CHECK(channel->bytes >= bytes);
        channel->bytes -= bytes;
    }
    if (channel->metrics) {
        metric_add(channel->metrics, METRIC_CHANNEL_BYTES, in ? (int64_t)bytes : -(int64_t)bytes);
    }
}

/* Lock held. */
static bool channel_has_credit(const struct channel *channel, size_t bytes) {
    return !channel->first ||
           (channel->bytes <= channel->bytes_max && bytes <= channel->bytes_max - channel->bytes);
}

enum channel_result channel_send(struct channel *channel, void *take_body, size_t bytes,
                                 void (*free_body)(void *), int64_t deadline_us) {
    struct message *message = xmalloc(sizeof *message);
    *message = (struct message){ .body = take_body, .bytes = bytes, .free_body = free_body };
    struct waitq *q = channel->inbox->q;
    enum channel_result result = CHANNEL_SENT;
    waitq_lock(q);
    channel->waiting++;
    while (!channel->closed && !channel_has_credit(channel, bytes) && result == CHANNEL_SENT) {
        if (!waitq_wait(q, deadline_us) && !channel->closed &&
            !channel_has_credit(channel, bytes)) {
            result = CHANNEL_TIMEOUT;
        }
    }
    channel->waiting--;
    if (channel->closed) {
        result = CHANNEL_CLOSED;
    }
    if (result == CHANNEL_SENT) {
        *channel->last = message;
        channel->last = &message->next;
        channel_count(channel, bytes, true);
        channel->inbox->news = true;
        waitq_wake_all(q);
    }
    waitq_unlock(q);
    if (result != CHANNEL_SENT) {
        free(message);
    }
    if (result == CHANNEL_CLOSED && free_body) {
        free_body(take_body);
    }
    return result;
}

void *channel_take(struct channel *channel) {
    struct waitq *q = channel->inbox->q;
    waitq_lock(q);
    struct message *message = channel->first;
    if (message) {
        channel->first = message->next;
        if (!channel->first) {
            channel->last = &channel->first;
        }
        channel_count(channel, message->bytes, false);
        if (channel->waiting) {
            waitq_wake_all(q);
        }
    }
    waitq_unlock(q);
    if (!message) {
        return NULL;
    }
    void *body = message->body;
    free(message);
    return body;
}

void channel_close(struct channel *channel) {
    struct waitq *q = channel->inbox->q;
    waitq_lock(q);
    channel->closed = true;
    channel->inbox->news = true;
    waitq_wake_all(q);
    waitq_unlock(q);
}

void channel_abort(struct channel *channel) {
    struct waitq *q = channel->inbox->q;
    waitq_lock(q);
    channel->closed = true;
    struct message *message = channel->first;
    channel->first = NULL;
    channel->last = &channel->first;
    channel_count(channel, channel->bytes, false);
    channel->inbox->news = true;
    waitq_wake_all(q);
    waitq_unlock(q);
    while (message) {
        struct message *next = message->next;
        if (message->free_body) {
            message->free_body(message->body);
        }
        free(message);
        message = next;
    }
}

size_t channel_bytes(struct channel *channel) {
    waitq_lock(channel->inbox->q);
    size_t bytes = channel->bytes;
    waitq_unlock(channel->inbox->q);
    return bytes;
}
