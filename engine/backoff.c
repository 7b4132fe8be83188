#include "engine/backoff.h"

#include "cdc/base/clock.h"

int64_t backoff_next_us(struct backoff *b) {
    int64_t step = b->now_us ? b->now_us : b->first_us;
    b->now_us = step * 2 > b->max_us ? b->max_us : step * 2;
    b->tries++;
    uint32_t random;
    rng_bytes(&random, sizeof random);
    return step / 2 + (int64_t)(random % (uint32_t)(step / 2 + 1));
}

void backoff_reset(struct backoff *b) {
    b->now_us = 0;
    b->tries = 0;
}
