#include "engine/barrier.h"

bool barrier_due(const struct barrier_view *v, int64_t *look_again_us) {
    *look_again_us = INT64_MAX;
    if (v->in_flight) {
        return false;
    }
    if (v->finishing) {
        return true;
    }
    if (!v->changed && !v->log_moved) {
        return false;
    }
    int64_t distance_us;
    if (v->changed) {
        distance_us = v->freshness_us > v->commit_us ? v->freshness_us : v->commit_us;
        uint64_t enough = v->snapshot_bytes ? v->snapshot_bytes : BARRIER_SNAPSHOT_BYTES;
        if (v->snapshot && v->bytes >= enough) {
            return true;
        }
        if (v->snapshot && distance_us < BARRIER_SNAPSHOT_US) {
            distance_us = BARRIER_SNAPSHOT_US;
        }
    } else {
        if (v->log_bytes >= BARRIER_IDLE_BYTES) {
            return true;
        }
        distance_us = BARRIER_IDLE_US;
    }
    if (v->now_us - v->last_us >= distance_us) {
        return true;
    }
    *look_again_us = v->last_us + distance_us;
    return false;
}
