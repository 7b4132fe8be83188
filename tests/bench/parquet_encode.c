/* What a row costs from a batch to a Parquet file: rows like TPC-H's lineitem in batches of the
 * size that lanes use, converted and written with zstd level 1, profile modern, into nothing.
 * Processor time of this thread: the median of five files of 1.25 million rows, in microseconds a
 * row (parquet.us_row), and the file's bytes a row (parquet.bytes_row). With an argument the first
 * file is kept under that name. */
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cdc/value.h"
#include "sinks/parquet/parquet_writer.h"

enum {
    ROWS = 1250000,
    ROUNDS = 5,
    COLUMNS = 16,
    BATCHES = (ROWS + BATCH_ROWS_MAX - 1) / BATCH_ROWS_MAX
};

static const struct {
    const char *name, *type;
} columns[COLUMNS] = {
    { "l_orderkey", "int64" },         { "l_partkey", "int32" },
    { "l_suppkey", "int32" },          { "l_linenumber", "int32" },
    { "l_quantity", "decimal(15,2)" }, { "l_extendedprice", "decimal(15,2)" },
    { "l_discount", "decimal(15,2)" }, { "l_tax", "decimal(15,2)" },
    { "l_returnflag", "text" },        { "l_linestatus", "text" },
    { "l_shipdate", "date" },          { "l_commitdate", "date" },
    { "l_receiptdate", "date" },       { "l_shipinstruct", "text" },
    { "l_shipmode", "text" },          { "l_comment", "text" },
};

static uint64_t seed = 88172645463325252u;
static uint32_t below(uint32_t n) {
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (uint32_t)(seed >> 32) % n;
}

/* TPC-H cuts comments out of 300 MB of sentences made from a grammar; so does this, from less. */
enum { TEXT_BYTES = 16 << 20 };
static char text[TEXT_BYTES + 128];

static size_t put_word(size_t at, const char *const *words, uint32_t count) {
    const char *word = words[below(count)];
    size_t len = strlen(word);
    memcpy(text + at, word, len);
    text[at + len] = ' ';
    return at + len + 1;
}

static void make_text(void) {
    static const char *const nouns[] = {
        "packages",    "requests",       "accounts",     "deposits",  "foxes",     "ideas",
        "theodolites", "instructions",   "dependencies", "excuses",   "platelets", "asymptotes",
        "courts",      "dolphins",       "multipliers",  "sauternes", "warthogs",  "frets",
        "dinos",       "attainments",    "somas",        "Tiresias'", "patterns",  "forges",
        "braids",      "hockey players", "frays",        "warhorses", "dugouts",   "notornis",
        "epitaphs",    "pearls",         "tithes",       "waters",    "orbits",    "gifts",
        "sheaves",     "depths",         "sentiments",   "decoys",    "realms",    "pains",
        "grouches",    "escapades"
    };
    static const char *const verbs[] = {
        "sleep",  "wake",   "are",       "cajole",   "haggle", "nag",   "use",     "boost",
        "affix",  "detect", "integrate", "maintain", "nod",    "was",   "lose",    "sublate",
        "solve",  "thrash", "promise",   "engage",   "hinder", "print", "x-ray",   "breach",
        "eat",    "grow",   "impress",   "mold",     "poach",  "serve", "run",     "dazzle",
        "snooze", "doze",   "unwind",    "kindle",   "play",   "hang",  "believe", "doubt"
    };
    static const char *const adjectives[] = {
        "furious",  "sly",       "careful",  "blithe", "quick",  "fluffy",  "slow",
        "quiet",    "ruthless",  "thin",     "close",  "dogged", "daring",  "brave",
        "stealthy", "permanent", "enticing", "idle",   "busy",   "regular", "final",
        "ironic",   "even",      "bold",     "silent"
    };
    static const char *const adverbs[] = {
        "sometimes", "always",    "never",   "furiously",  "slyly",       "carefully",  "blithely",
        "quickly",   "fluffily",  "slowly",  "quietly",    "ruthlessly",  "thinly",     "closely",
        "doggedly",  "daringly",  "bravely", "stealthily", "permanently", "enticingly", "idly",
        "busily",    "regularly", "finally", "ironically", "evenly",      "boldly",     "silently"
    };
    static const char *const prepositions[] = {
        "about",   "above",        "according to", "across",     "after",   "against",
        "along",   "alongside of", "among",        "around",     "at",      "atop",
        "before",  "behind",       "beneath",      "beside",     "besides", "between",
        "beyond",  "by",           "despite",      "during",     "except",  "for",
        "from",    "in place of",  "inside",       "instead of", "into",    "near",
        "of",      "on",           "outside",      "over",       "past",    "since",
        "through", "throughout",   "to",           "toward",     "under",   "until",
        "up",      "upon",         "without",      "with",       "within"
    };
    static const char stops[] = ".;:?!-";
    size_t at = 0;
    while (at < TEXT_BYTES - 200) {
        for (uint32_t phrase = 0, more = 1 + below(2); phrase <= more; phrase++) {
            switch (below(4)) {
            case 0:
                at = put_word(at, adjectives, 25);
                break;
            case 1:
                at = put_word(at, adverbs, 28);
                at = put_word(at, adjectives, 25);
                break;
            default:
                break;
            }
            at = put_word(at, nouns, 44);
            if (phrase == 0) {
                at = put_word(at, verbs, 40);
                if (below(2)) {
                    at = put_word(at, adverbs, 28);
                }
                at = put_word(at, prepositions, 47);
                memcpy(text + at, "the ", 4);
                at += 4;
            }
        }
        text[at - 1] = stops[below(20) < 14 ? 0 : below(6)];
        text[at++] = ' ';
    }
    memset(text + at, ' ', sizeof text - at);
}

static void put_i32(struct batch *b, uint16_t col, int32_t v) {
    memcpy(batch_fixed(b, col), &v, 4);
}
static void put_i64(struct batch *b, uint16_t col, int64_t v) {
    memcpy(batch_fixed(b, col), &v, 8);
}
static void put_text(struct batch *b, uint16_t col, const char *s) {
    batch_put_var(b, col, s, strlen(s));
}

struct order {
    int64_t number, key;
    uint32_t line, lines;
    int32_t date;
};

static void put_line(struct batch *b, struct order *o) {
    static const char *const instructions[] = { "DELIVER IN PERSON", "COLLECT COD", "NONE",
                                                "TAKE BACK RETURN" };
    static const char *const modes[] = { "REG AIR", "AIR", "RAIL", "SHIP", "TRUCK", "MAIL", "FOB" };
    if (o->line == o->lines) { /* keys as TPC-H has them: 8 of each 32 */
        o->key = o->number / 8 * 32 + o->number % 8 + 1;
        o->number++;
        o->line = 0;
        o->lines = 1 + below(7);
        o->date = (int32_t)value_days_from_civil(1992, 1, 1) + (int32_t)below(2406);
    }
    int32_t part = 1 + (int32_t)below(200000);
    int32_t quantity = 1 + (int32_t)below(50);
    int32_t shipped = o->date + 1 + (int32_t)below(121);
    int32_t received = shipped + 1 + (int32_t)below(30);
    int32_t today = (int32_t)value_days_from_civil(1995, 6, 17);
    put_i64(b, 0, o->key);
    put_i32(b, 1, part);
    put_i32(b, 2, 1 + (int32_t)below(10000));
    put_i32(b, 3, (int32_t)++o->line);
    put_i64(b, 4, quantity * 100);
    put_i64(b, 5, quantity * (90000 + part / 10 % 20001 + 100 * (part % 1000)));
    put_i64(b, 6, below(11));
    put_i64(b, 7, below(9));
    put_text(b, 8, received <= today ? below(2) ? "R" : "A" : "N");
    put_text(b, 9, shipped > today ? "O" : "F");
    put_i32(b, 10, shipped);
    put_i32(b, 11, o->date + 30 + (int32_t)below(61));
    put_i32(b, 12, received);
    put_text(b, 13, instructions[below(4)]);
    put_text(b, 14, modes[below(7)]);
    batch_put_var(b, 15, text + below(TEXT_BYTES), 10 + below(34));
    batch_row_done(b, ROW_INSERT, 0, 0);
}

static struct schema *lineitem(void) {
    struct schema *s = schema_new(1, "public", "lineitem", COLUMNS);
    for (int i = 0; i < COLUMNS; i++) {
        struct column_def *c = &s->columns[i];
        c->name = columns[i].name;
        c->source_type = columns[i].type;
        c->key_pos = -1;
        CHECK(type_from_name(columns[i].type, &c->type) == 0);
    }
    schema_finish(s);
    return s;
}

static int count_bytes(void *arg, const void *p, size_t n, struct err *err) {
    (void)err;
    FILE *kept = *(FILE **)arg;
    CHECK(!kept || fwrite(p, 1, n, kept) == n);
    return 0;
}

static double thread_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

/* Microseconds; *bytes is what the file has. */
static double write_file(const struct schema *schema, struct batch *const *batches, FILE *kept,
                         uint64_t *bytes, size_t *memory) {
    struct parquet_field fields[COLUMNS];
    struct lake_scratch *scratch[COLUMNS];
    for (uint16_t i = 0; i < COLUMNS; i++) {
        fields[i] = (struct parquet_field){ .name = columns[i].name,
                                            .type = lake_type_of(&schema->columns[i].type, false),
                                            .field_id = i + 1,
                                            .required = true };
        scratch[i] = lake_scratch_new();
    }
    struct parquet_options options = { .codec = PARQUET_ZSTD,
                                       .level = 1,
                                       .profile = PARQUET_MODERN };
    struct parquet_output output = { count_bytes, &kept };
    struct err err = ERR_INIT;
    struct parquet_info info;
    double from = thread_us();
    struct parquet_writer *w = parquet_writer_new(fields, COLUMNS, &options, output);
    for (int i = 0; i < BATCHES; i++) {
        struct lake_column cells[COLUMNS];
        for (uint16_t c = 0; c < COLUMNS; c++) {
            CHECK(lake_column_of(scratch[c], batches[i], c, NULL, batches[i]->rows, &fields[c].type,
                                 &cells[c], &err) == 0);
        }
        CHECK(parquet_writer_add(w, cells, batches[i]->rows, &err) == 0);
        size_t held = parquet_writer_memory(w);
        *memory = held > *memory ? held : *memory;
    }
    CHECK(parquet_writer_finish(w, &info, &err) == 0);
    double us = thread_us() - from;
    CHECK(info.rows == ROWS);
    *bytes = info.bytes;
    parquet_info_release(&info);
    parquet_writer_free(w);
    for (uint16_t i = 0; i < COLUMNS; i++) {
        lake_scratch_free(scratch[i]);
    }
    return us;
}

static int compare(const void *a, const void *b) {
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv) {
    mallopt(M_MMAP_THRESHOLD, 32 << 20); /* as tailrace runs: freed memory is kept */
    mallopt(M_TRIM_THRESHOLD, 256 << 20);
    make_text();
    struct schema *schema = lineitem();
    static struct batch *batches[BATCHES];
    struct order order = { 0 };
    for (uint32_t i = 0; i < ROWS; i++) {
        if (i % BATCH_ROWS_MAX == 0) {
            batches[i / BATCH_ROWS_MAX] = batch_new(schema, BATCH_ROWS_MAX, NULL);
        }
        put_line(batches[i / BATCH_ROWS_MAX], &order);
    }
    double us[ROUNDS];
    uint64_t bytes = 0;
    size_t memory = 0;
    FILE *kept = argc > 1 ? fopen(argv[1], "wb") : NULL;
    for (int i = 0; i < ROUNDS; i++) {
        us[i] = write_file(schema, batches, i == 0 ? kept : NULL, &bytes, &memory) / ROWS;
    }
    if (kept) {
        CHECK(fclose(kept) == 0);
    }
    qsort(us, ROUNDS, sizeof us[0], compare);
    printf("parquet.us_row %.3f\n", us[ROUNDS / 2]);
    printf("parquet.bytes_row %.2f\n", (double)bytes / ROWS);
    printf("parquet.memory_mib %.1f\n", (double)memory / (1 << 20));
    for (int i = 0; i < BATCHES; i++) {
        batch_unref(batches[i]);
    }
    schema_unref(schema);
    return 0;
}
