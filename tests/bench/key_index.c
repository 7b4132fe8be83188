/* What the key index costs: bench_key_index DIR [KEYS [MEMORY_MIB]] (10,000,000 keys, 64 MiB).
 *
 * For int64 keys in order, int64 keys in random order, and uuids: KEYS are appended in batches of
 * 65,536 and checkpointed, three times, the median counts (a page of the system's cache that was
 * never used before costs a virtual machine many times what it costs later); merged into one run;
 * asked for in random order, those that are there and others; then half as many are updated (found,
 * then put) at random, a commit each 200,000, with a whole checkpoint at the end. Encoding and
 * hashing of the keys is inside all times. Times are processor time of this process, the kernel's
 * included; the goals are of the int64 keys. Every answer is compared with what it must be, outside
 * the times where that costs.
 *
 * The last lines are `FIGURE VALUE`; lines that begin with # say more. Anonymous memory is the
 * highest RssAnon seen after a batch. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cdc/base/map.h"
#include "sinks/iceberg/key_index.h"

enum { BATCH = 65536, COMMIT_ROWS = 200000, FILE_ROWS = 1000000, LOADS = 3 };
enum keys { KEYS_ORDERED, KEYS_RANDOM, KEYS_UUID };
static const char *const names[] = { "int64 in order", "int64 at random", "uuid" };

static uint64_t seed = 88172645463325252u;
static uint64_t draw(void) {
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}
/* A bijection of 64-bit numbers. */
static uint64_t mix(uint64_t x) {
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

/* As key.h encodes it: integers big-endian with the sign flipped, uuids as they are. */
static inline uint64_t hash_of(enum keys kind, uint64_t i) {
    uint8_t key[16];
    uint64_t n = kind == KEYS_ORDERED ? i : mix(i);
    uint64_t be = __builtin_bswap64(n ^ UINT64_C(1) << 63);
    memcpy(key, &be, 8);
    if (kind != KEYS_UUID) {
        return hash_bytes(key, 8, 0);
    }
    be = __builtin_bswap64(n * 3 + 1);
    memcpy(key + 8, &be, 8);
    return hash_bytes(key, 16, 0);
}

static double cpu_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static uint64_t anon_high;
static void note_anon(void) {
    char line[200];
    uint64_t kib;
    FILE *f = fopen("/proc/self/status", "r");
    CHECK(f);
    while (fgets(line, sizeof line, f)) {
        if (sscanf(line, "RssAnon: %" SCNu64, &kib) == 1 && kib > anon_high) {
            anon_high = kib;
        }
    }
    fclose(f);
}

static void need(int result, const struct err *err) {
    if (result) {
        fprintf(stderr, "bench_key_index: %s: %s\n", err->code, err->text);
        exit(1);
    }
}

static int no_key(void *arg, uint64_t loc, struct buf *out, struct err *err) {
    (void)arg, (void)loc, (void)out;
    return err_set(err, ERR_FATAL, "collision", "two keys of the bench have one hash");
}

struct bench {
    struct key_index *ix;
    enum keys kind;
    uint64_t keys;
    uint64_t hashes[BATCH], locs[BATCH], wanted[BATCH];
    uint64_t *where; /* location by key */
    double probes_per_s, misses_per_s, us_change, us_insert, bytes_key, bytes_changed;
};

static void say(const struct bench *b, const char *what, double s, uint64_t rows) {
    struct key_index_size size;
    key_index_size(b->ix, &size);
    printf("# %-15s %-28s %7.1f ns a key, %2u runs, %5.2f bytes a key on disk\n", names[b->kind],
           what, s / (double)rows * 1e9, size.runs, (double)size.disk_bytes / (double)b->keys);
}

/* Processor seconds of one load into an empty index. */
static double load_once(struct bench *b) {
    struct err err = ERR_INIT;
    double s = 0;
    need(key_index_clear(b->ix, &err), &err);
    for (uint64_t from = 0; from < b->keys; from += BATCH) {
        uint32_t n = b->keys - from < BATCH ? (uint32_t)(b->keys - from) : BATCH;
        double start = cpu_s();
        for (uint32_t i = 0; i < n; i++) {
            uint64_t row = from + i;
            b->hashes[i] = hash_of(b->kind, row);
            b->locs[i] = key_loc((uint32_t)(row / FILE_ROWS), row % FILE_ROWS);
        }
        need(key_index_append(b->ix, b->hashes, b->locs, n, &err), &err);
        s += cpu_s() - start;
        memcpy(b->where + from, b->locs, n * sizeof *b->locs);
        note_anon();
    }
    double start = cpu_s();
    need(key_index_checkpoint(b->ix, "loaded", true, &err), &err);
    s += cpu_s() - start;
    note_anon();
    say(b, "append, checkpoint", s, b->keys);
    return s;
}

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static void load(struct bench *b) {
    struct key_index_size size;
    double s[LOADS];
    for (int i = 0; i < LOADS; i++) {
        s[i] = load_once(b);
    }
    qsort(s, LOADS, sizeof *s, compare);
    b->us_insert = s[LOADS / 2] / (double)b->keys * 1e6;
    key_index_size(b->ix, &size);
    b->bytes_key = (double)size.disk_bytes / (double)b->keys;
}

static double probe(struct bench *b, const char *what, bool there) {
    struct err err = ERR_INIT;
    double s = 0;
    uint64_t total = b->keys / BATCH * BATCH;
    for (uint64_t from = 0; from < total; from += BATCH) {
        static uint64_t rows[BATCH];
        for (uint32_t i = 0; i < BATCH; i++) {
            rows[i] = draw() % b->keys + (there ? 0 : b->keys);
        }
        double start = cpu_s();
        for (uint32_t i = 0; i < BATCH; i++) {
            b->hashes[i] = hash_of(b->kind, rows[i]);
        }
        need(key_index_find(b->ix, b->hashes, BATCH, b->locs, &err), &err);
        s += cpu_s() - start;
        for (uint32_t i = 0; i < BATCH; i++) {
            CHECK(b->locs[i] == (there ? b->where[rows[i]] : KEY_LOC_NONE));
        }
    }
    note_anon();
    say(b, what, s, total);
    return (double)total / s;
}

static void change(struct bench *b) {
    struct err err = ERR_INIT;
    double s = 0;
    uint64_t total = b->keys / 2;
    static uint64_t rows[BATCH];
    for (uint64_t from = 0; from < total; from += BATCH) {
        uint32_t n = total - from < BATCH ? (uint32_t)(total - from) : BATCH;
        for (uint32_t i = 0; i < n; i++) {
            rows[i] = draw() % b->keys;
            b->wanted[i] = b->where[rows[i]];
        }
        double start = cpu_s();
        for (uint32_t i = 0; i < n; i++) {
            b->hashes[i] = hash_of(b->kind, rows[i]);
        }
        need(key_index_find(b->ix, b->hashes, n, b->locs, &err), &err);
        s += cpu_s() - start;
        for (uint32_t i = 0; i < n; i++) {
            CHECK(b->locs[i] == b->wanted[i]);
            uint64_t row = from + i;
            b->locs[i] = key_loc((uint32_t)(1000 + row / COMMIT_ROWS), row % COMMIT_ROWS);
            b->where[rows[i]] = b->locs[i];
        }
        start = cpu_s();
        need(key_index_put(b->ix, b->hashes, b->locs, n, &err), &err);
        if (from / COMMIT_ROWS != (from + n) / COMMIT_ROWS) {
            need(key_index_checkpoint(b->ix, "changed", false, &err), &err);
        }
        s += cpu_s() - start;
        note_anon();
    }
    double start = cpu_s();
    need(key_index_checkpoint(b->ix, "changed", true, &err), &err);
    s += cpu_s() - start;
    note_anon();
    say(b, "find and put, checkpoints", s, total);
    b->us_change = s / (double)total * 1e6;
    struct key_index_size size;
    key_index_size(b->ix, &size);
    b->bytes_changed = (double)size.disk_bytes / (double)b->keys;
}

static void run(struct bench *b, const char *dir, uint64_t memory) {
    struct err err = ERR_INIT;
    struct key_index_config config = {
        .files = files_os(), .dir = dir, .memory_bytes = memory, .read_key = no_key
    };
    bool found;
    need(key_index_open(&config, NULL, &found, &b->ix, &err), &err);
    load(b);
    probe(b, "find, before the merge", true);
    double start = cpu_s();
    need(key_index_merge(b->ix, &err), &err);
    double s = cpu_s() - start;
    note_anon();
    need(key_index_checkpoint(b->ix, "merged", true, &err), &err);
    say(b, "merge into one run", s, b->keys);
    b->probes_per_s = probe(b, "find", true);
    b->misses_per_s = probe(b, "find, not there", false);
    change(b);
    probe(b, "find, after the changes", true);
    key_index_close(b->ix);
    start = cpu_s();
    need(key_index_open(&config, "changed", &found, &b->ix, &err), &err);
    CHECK(found);
    printf("# %-15s open: %.1f ms\n", names[b->kind], (cpu_s() - start) * 1e3);
    probe(b, "find, opened again", true);
    need(key_index_clear(b->ix, &err) || key_index_checkpoint(b->ix, "", true, &err), &err);
    key_index_close(b->ix);
}

int main(int argc, char **argv) {
    if (argc < 2 || argc > 4) {
        fprintf(stderr, "usage: bench_key_index DIR [KEYS [MEMORY_MIB]]\n");
        return 2;
    }
    uint64_t keys = argc > 2 ? strtoull(argv[2], NULL, 10) : 10000000;
    uint64_t memory = (argc > 3 ? strtoull(argv[3], NULL, 10) : 64) << 20;
    CHECK(keys >= BATCH);
    struct bench *b[3];
    note_anon();
    for (int kind = KEYS_ORDERED; kind <= KEYS_UUID; kind++) {
        b[kind] = xcalloc(1, sizeof *b[kind]);
        b[kind]->kind = (enum keys)kind;
        b[kind]->keys = keys;
        /* The expected locations are the bench's own; huge, so the system gives them apart. */
        b[kind]->where = xcalloc(keys, sizeof *b[kind]->where);
        memset(b[kind]->where, 1, keys * sizeof *b[kind]->where);
        anon_high = 0;
        note_anon();
        uint64_t own = anon_high;
        run(b[kind], argv[1], memory);
        printf("# %-15s anonymous memory of the index, highest: %.1f MiB\n", names[kind],
               (double)(anon_high - own) / 1024);
        free(b[kind]->where);
    }
    printf("index.probes_per_s %.0f\n", b[KEYS_RANDOM]->probes_per_s);
    printf("index.misses_per_s %.0f\n", b[KEYS_RANDOM]->misses_per_s);
    printf("index.bytes_key %.2f\n", b[KEYS_RANDOM]->bytes_key);
    printf("index.bytes_key_changed %.2f\n", b[KEYS_RANDOM]->bytes_changed);
    printf("index.us_change %.3f\n", b[KEYS_RANDOM]->us_change);
    printf("index.us_insert %.3f\n", b[KEYS_ORDERED]->us_insert);
    printf("index.us_insert_random %.3f\n", b[KEYS_RANDOM]->us_insert);
    printf("index.uuid.probes_per_s %.0f\n", b[KEYS_UUID]->probes_per_s);
    printf("index.uuid.us_change %.3f\n", b[KEYS_UUID]->us_change);
    printf("index.uuid.us_insert %.3f\n", b[KEYS_UUID]->us_insert);
    printf("index.uuid.bytes_key %.2f\n", b[KEYS_UUID]->bytes_key);
    return 0;
}
