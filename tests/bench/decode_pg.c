/* How long pgsrc_decode_rows takes for a cell: rows like TPC-H's lineitem, as complete data rows in
 * memory, into batches of the size that lanes use, which are made and freed within the time.
 * Medians of five rounds, in nanoseconds of this thread's processor time: fresh_ns_cell with the C
 * library's defaults, where each batch is memory new from the system and its page faults are a
 * third of the time; ns_cell with freed batches' memory kept by the allocator, which is the decoder
 * itself. */
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "connectors/postgres/pgsrc_type.h"

enum { ROWS = 100000, ROUNDS = 5, PASSES = 5, COLUMNS = 16, NUMERIC_15_2 = 15 << 16 | (2 + 4) };

static const struct {
    const char *name;
    uint32_t oid;
    int32_t mod;
} columns[COLUMNS] = {
    { "l_orderkey", 20, -1 },
    { "l_partkey", 23, -1 },
    { "l_suppkey", 23, -1 },
    { "l_linenumber", 23, -1 },
    { "l_quantity", 1700, NUMERIC_15_2 },
    { "l_extendedprice", 1700, NUMERIC_15_2 },
    { "l_discount", 1700, NUMERIC_15_2 },
    { "l_tax", 1700, NUMERIC_15_2 },
    { "l_returnflag", 1042, 5 },
    { "l_linestatus", 1042, 5 },
    { "l_shipdate", 1082, -1 },
    { "l_commitdate", 1082, -1 },
    { "l_receiptdate", 1082, -1 },
    { "l_shipinstruct", 1042, 29 },
    { "l_shipmode", 1042, 14 },
    { "l_comment", 1043, 48 },
};

static uint64_t seed = 88172645463325252u;
static uint32_t below(uint32_t n) {
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (uint32_t)(seed >> 32) % n;
}

static void put_be(struct buf *out, uint64_t v, int bytes) {
    for (int i = bytes - 1; i >= 0; i--) {
        buf_putc(out, (char)(v >> (8 * i)));
    }
}
static void put_int(struct buf *out, uint64_t v, int bytes) {
    put_be(out, (uint64_t)bytes, 4);
    put_be(out, v, bytes);
}
static void put_text(struct buf *out, const char *s, size_t len) {
    put_be(out, len, 4);
    buf_put(out, s, len);
}
/* Cents, as numeric_send writes them: base-10000 digits without zeros at either end. */
static void put_cents(struct buf *out, uint64_t cents) {
    uint16_t digits[6];
    int count = 0;
    uint64_t whole = cents / 100;
    unsigned fraction = (unsigned)(cents % 100) * 100;
    for (uint64_t w = whole; w > 0; w /= 10000) {
        count++;
    }
    int weight = count - 1;
    for (int i = count - 1; i >= 0; i--, whole /= 10000) {
        digits[i] = (uint16_t)(whole % 10000);
    }
    digits[count++] = (uint16_t)fraction;
    while (count > 0 && digits[count - 1] == 0) {
        count--;
    }
    const uint16_t *first = digits;
    while (count > 0 && *first == 0) {
        first++;
        count--;
        weight--;
    }
    put_be(out, 8 + 2 * (uint64_t)count, 4);
    put_be(out, (uint64_t)count, 2);
    put_be(out, count ? (uint64_t)weight : 0, 2);
    put_be(out, 0, 2);
    put_be(out, 2, 2);
    for (int i = 0; i < count; i++) {
        put_be(out, first[i], 2);
    }
}

static void put_row(struct buf *out, uint32_t number) {
    static const char *const instructions[] = { "DELIVER IN PERSON        ",
                                                "COLLECT COD              ",
                                                "NONE                     ",
                                                "TAKE BACK RETURN         " };
    static const char *const modes[] = { "REG AIR   ", "AIR       ", "RAIL      ", "SHIP      ",
                                         "TRUCK     ", "MAIL      ", "FOB       " };
    static const char comment[] = "carefully final deposits nag quickly against the re";
    size_t start = out->len;
    buf_putc(out, 'D');
    put_be(out, 0, 4);
    put_be(out, COLUMNS, 2);
    put_int(out, number / 4, 8);
    put_int(out, below(200000), 4);
    put_int(out, below(10000), 4);
    put_int(out, number % 4 + 1, 4);
    put_cents(out, 100 * (uint64_t)(below(50) + 1));
    put_cents(out, 90000 + below(10000000));
    put_cents(out, below(11));
    put_cents(out, below(9));
    put_text(out, &"NRA"[below(3)], 1);
    put_text(out, &"OF"[below(2)], 1);
    for (int i = 0; i < 3; i++) {
        put_int(out, (uint64_t)(int64_t)((int)below(2500) - 2900), 4);
    }
    put_text(out, instructions[below(4)], 25);
    put_text(out, modes[below(7)], 10);
    put_text(out, comment + below(8), 10 + below(33));
    uint32_t size = __builtin_bswap32((uint32_t)(out->len - start - 1));
    memcpy(out->data + start + 1, &size, 4);
}

static struct schema *lineitem(void) {
    struct schema *s = schema_new(1, "public", "lineitem", COLUMNS);
    for (int i = 0; i < COLUMNS; i++) {
        struct column_def *c = &s->columns[i];
        *c = (struct column_def){ .name = columns[i].name,
                                  .source_oid = columns[i].oid,
                                  .source_mod = columns[i].mod,
                                  .source_type = "?",
                                  .key_pos = -1 };
        pgsrc_type_map(c->source_oid, c->source_mod, NULL, NULL, &c->type);
    }
    schema_finish(s);
    return s;
}

static double thread_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static double decode_all(struct schema *s, const struct pgsrc_plan *plan,
                         const struct buf *messages) {
    double from = thread_ns();
    for (int pass = 0; pass < PASSES; pass++) {
        struct view in = view_of(messages->data, messages->len);
        while (view_left(&in) > 0) {
            struct err err = ERR_INIT;
            struct batch *b = batch_new(s, BATCH_ROWS_MAX, NULL);
            if (pgsrc_decode_rows(plan, b, &in, &err) <= 0) {
                fprintf(stderr, "%s\n", err.text);
                exit(1);
            }
            batch_seal(b);
            batch_unref(b);
        }
    }
    return (thread_ns() - from) / ((double)PASSES * ROWS * COLUMNS);
}

static int compare(const void *a, const void *b) {
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(struct schema *s, const struct pgsrc_plan *plan, const struct buf *messages) {
    double ns[ROUNDS];
    for (int i = 0; i < ROUNDS; i++) {
        ns[i] = decode_all(s, plan, messages);
    }
    qsort(ns, ROUNDS, sizeof(ns[0]), compare);
    return ns[ROUNDS / 2];
}

int main(void) {
    struct buf messages;
    buf_init(&messages, SIZE_MAX);
    for (uint32_t i = 0; i < ROWS; i++) {
        put_row(&messages, i);
    }
    struct schema *s = lineitem();
    struct pgsrc_plan *plan = pgsrc_plan_new(s, NULL, NULL);
    printf("pg_decode.fresh_ns_cell %.2f\n", median(s, plan, &messages));
    mallopt(M_MMAP_THRESHOLD, 32 << 20);
    mallopt(M_TRIM_THRESHOLD, 256 << 20);
    printf("pg_decode.ns_cell %.2f\n", median(s, plan, &messages));
    pgsrc_plan_free(plan);
    schema_unref(s);
    buf_release(&messages);
    return 0;
}
