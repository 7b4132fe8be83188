/* Channels: how tasks talk. A channel hands over ownership of messages from many senders to one
 * receiver and is bounded in BYTES: a sender waits for credit. Several channels may share one
 * inbox, so that a task waits on all of them at once.
 *
 * One message larger than the whole budget is let in when its channel is empty: it could never be
 * sent otherwise. Thread: send, close, abort and poke any; take and inbox_wait the receiver alone.
 * Locks: the inbox's waitq, a leaf; never held while a message is freed. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cdc/base/metrics.h"

struct inbox;
struct channel;

struct inbox *inbox_new(void);
void inbox_free(struct inbox *inbox); /* after its channels */
/* Waits until a message arrived, a channel was closed or somebody poked since the last call, or
 * until the deadline (then false). The receiver takes all it can use after each return: what it
 * leaves in a channel is not announced again. */
bool inbox_wait(struct inbox *inbox, int64_t deadline_us);
void inbox_poke(struct inbox *inbox);

enum channel_result { CHANNEL_SENT, CHANNEL_TIMEOUT, CHANNEL_CLOSED };

/* metrics: METRIC_CHANNEL_BYTES follows what is queued; NULL = nowhere. */
struct channel *channel_new(struct inbox *inbox, size_t bytes_max, struct metrics *metrics);
void channel_free(struct channel *channel); /* frees what is queued; NULL allowed */
/* Takes the message on SENT and CLOSED (then it is freed); on TIMEOUT it stays the caller's. A
 * deadline in the past tries once. */
enum channel_result channel_send(struct channel *channel, void *take_body, size_t bytes,
                                 void (*free_body)(void *), int64_t deadline_us);
/* The oldest message, or NULL when there is none; its credit returns at once. */
void *channel_take(struct channel *channel);
void channel_close(
    struct channel *channel); /* later sends fail; what is queued can still be taken */
void channel_abort(struct channel *channel); /* closes, and frees what is queued */
size_t channel_bytes(struct channel *channel);
