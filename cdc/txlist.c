/* Transaction lists: filled by the log reader, then shared and immutable. Thread: any, once shared.
 */
#include <stdatomic.h>
#include <stdlib.h>

#include "cdc/batch.h"

struct txlist *txlist_new(void) {
    struct txlist *list = xcalloc(1, sizeof *list);
    atomic_init(&list->refs, 1);
    return list;
}

uint32_t txlist_add(struct txlist *list, const struct tx *tx) {
    if (list->count == list->cap) {
        CHECK(list->cap <= UINT32_MAX / 2);
        list->cap = list->cap ? list->cap * 2 : 8;
        list->at = xrealloc(list->at, (size_t)list->cap * sizeof *list->at);
    }
    list->at[list->count] = *tx;
    return list->count++;
}

struct txlist *txlist_ref(struct txlist *list) {
    atomic_fetch_add_explicit(&list->refs, 1, memory_order_relaxed);
    return list;
}

void txlist_unref(struct txlist *list) {
    if (list && atomic_fetch_sub_explicit(&list->refs, 1, memory_order_acq_rel) == 1) {
        free(list->at);
        free(list);
    }
}
