/* Growing pauses between tries, with jitter so that many jobs do not knock together. Owned by one
 * task; waits for nothing itself. */
#pragma once
#include <stdint.h>

struct backoff {
    int64_t first_us, max_us;
    int64_t now_us; /* the next pause before jitter; 0 = first */
    unsigned tries; /* pauses given since the last reset */
};
/* The next pause: between half of and the full step; the step doubles up to max_us. */
int64_t backoff_next_us(struct backoff *b);
void backoff_reset(struct backoff *b);
