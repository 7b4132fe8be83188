/* Writes a Parquet file of made-up columns, every lake type in many shapes, and beside it the
 * truth: a text of every cell, for check_parquet.py to compare with what other readers see.
 *
 *   parquet_make OUT SEED ROWS CODEC LEVEL PROFILE GROUP_ROWS GROUP_BYTES PAGE_BYTES
 *
 * OUT.parquet, and OUT.truth: a line `column NAME KIND ELEMENT PRECISION SCALE REQUIRED BLOOM`,
 * then a line a row: N for null, the cell's bytes in hexadecimal behind =, or [a,b,..] of them; at
 * the end the writer's own account: `info ROWS BYTES GROUPS`, and `leaf BYTES VALUES NULLS NANS
 * LOWER UPPER` a column. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sinks/parquet/parquet_writer.h"

enum shape {
    RANDOM,   /* whole range, extremes among them */
    FEW,      /* ten values */
    RISING,   /* small steps */
    FALLING,  /* ... down */
    NOTHING,  /* all null */
    SPARSE,   /* one in 200 */
    BLOCKS,   /* values and nulls in long stretches */
    RUNS,     /* the same for hundreds of rows */
    LATE_FEW, /* all different, later few */
    LATE_ALL, /* few, later all different */
    SOME,     /* about 3000 values, in any order */
    EDGE,     /* text: long common prefixes and greatest bytes; floats: NaN and zeros */
    LARGE,    /* few, and now and then one of megabytes: text and bytes only */
    SHAPES
};
enum { ADD_ROWS_MAX = 9000, COLUMNS_MAX = 240, CELL_MAX = 3400000 };

static uint64_t seed;
static uint64_t next(void) { /* splitmix64 */
    uint64_t z = seed += UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
    return z ^ z >> 31;
}
static uint32_t below(uint32_t n) { return (uint32_t)(next() >> 32) % n; }

struct maker {
    char name[64];
    struct lake_type type;
    enum shape shape;
    bool required, bloom;
    uint64_t value; /* RUNS, RISING, FALLING */
    uint32_t left;
};
static struct maker makers[COLUMNS_MAX];
static uint32_t maker_count;

static uint32_t width_of(enum lake_kind kind, uint8_t precision) {
    static const uint32_t widths[] = {
        [LAKE_BOOL] = 1,        [LAKE_INT] = 4,    [LAKE_LONG] = 8,   [LAKE_FLOAT] = 4,
        [LAKE_DOUBLE] = 8,      [LAKE_DATE] = 4,   [LAKE_TIME] = 8,   [LAKE_TIMESTAMP] = 8,
        [LAKE_TIMESTAMPTZ] = 8, [LAKE_STRING] = 0, [LAKE_BINARY] = 0, [LAKE_UUID] = 16
    };
    return kind == LAKE_DECIMAL ? (precision <= 18 ? 8 : 16) : widths[kind];
}

/* A number that says which value: the same number, the same value. */
static uint64_t choose(struct maker *m, uint64_t row) {
    switch (m->shape) {
    case FEW:
        return 1000 + below(10);
    case RISING:
        return m->value += below(4);
    case FALLING:
        return m->value -= below(4);
    case RUNS:
        if (m->left == 0) {
            m->left = 1 + below(700);
            m->value = below(50);
        }
        m->left--;
        return m->value;
    case LATE_FEW:
        return row < 30000 ? next() : below(5);
    case LATE_ALL:
        return row < 30000 ? below(5) : next();
    case SOME:
        return 5 + below(3000);
    case LARGE:
        return below(8000) == 0 ? UINT64_MAX : below(9);
    default:
        return next();
    }
}

static uint32_t make_text(struct maker *m, uint64_t v, bool utf8, uint8_t *to) {
    static const char *const points[] = { "a",
                                          "z",
                                          "\x7f",
                                          "\xc3\xa9",
                                          "\xdf\xbf",
                                          "\xe2\x82\xac",
                                          "\xed\x9f\xbf",
                                          "\xef\xbf\xbf",
                                          "\xf0\x9f\x98\x80",
                                          "\xf4\x8f\xbf\xbf",
                                          " ",
                                          "0" };
    uint64_t held = seed;
    seed = v; /* the same number makes the same text */
    uint32_t len = below(30);
    uint32_t n = 0;
    if (m->shape == EDGE) {
        static const uint32_t lengths[] = { 0, 1, 63, 64, 65, 66, 67, 100, 4095, 4096, 4097, 5000 };
        len = lengths[below(below(40) == 0 ? ARRAY_COUNT(lengths) : 8)];
    } else if (m->shape == RANDOM && below(300) == 0) {
        len = 3000 + below(3000);
    } else if (m->shape == RISING || m->shape == FALLING) {
        n = (uint32_t)sprintf((char *)to, "key-%020llu",
                              (unsigned long long)(v + (UINT64_C(1) << 62)));
        len = 0;
    }
    if (m->shape == LARGE && v == UINT64_MAX) {
        len = CELL_MAX - 8;
    }
    bool same = below(2) && m->shape == EDGE;
    uint32_t one = below(ARRAY_COUNT(points));
    while (n < len) {
        if (!utf8) {
            to[n++] = same ? 0xFF : (uint8_t)next();
            continue;
        }
        const char *point = points[same ? one : below(ARRAY_COUNT(points))];
        memcpy(to + n, point, strlen(point));
        n += (uint32_t)strlen(point);
    }
    seed = held;
    return n;
}

static __int128 ten_to(unsigned n) {
    __int128 v = 1;
    while (n-- > 0) {
        v *= 10;
    }
    return v;
}

/* Dates and times stay within what every reader takes as a value: DuckDB has infinities of its own.
 */
static uint32_t make_number(struct maker *m, enum lake_kind kind, uint64_t v, uint8_t *to) {
    bool extreme = m->shape == RANDOM && v % 16 == 0;
    bool high = v & 16;
    int64_t i64 = (int64_t)v;
    switch (kind) {
    case LAKE_BOOL:
        to[0] = v & 1;
        return 1;
    case LAKE_INT: {
        int32_t i = extreme ? (high ? INT32_MAX : INT32_MIN) : (int32_t)v;
        memcpy(to, &i, 4);
        return 4;
    }
    case LAKE_DATE: {
        int32_t i = extreme ? (high ? INT32_MAX - 1 : -1700000) : (int32_t)(v % 4000000) - 1000000;
        memcpy(to, &i, 4);
        return 4;
    }
    case LAKE_LONG:
        i64 = extreme ? (high ? INT64_MAX : INT64_MIN) : i64;
        break;
    case LAKE_TIME:
        i64 = extreme ? (high ? INT64_C(86399999999) : 0) : (int64_t)(v % UINT64_C(86400000000));
        break;
    case LAKE_TIMESTAMP:
    case LAKE_TIMESTAMPTZ:
        i64 = extreme ? (high ? INT64_MAX - 1 : INT64_C(-9000000000000000000)) : i64 / 2;
        break;
    case LAKE_DECIMAL: {
        __int128 limit = ten_to(m->type.precision) - 1;
        __int128 d = (__int128)((unsigned __int128)v * v * 31 + v) % (limit + 1);
        d = extreme                                  ? (high ? limit : -limit)
            : m->shape == RANDOM || m->shape == EDGE ? d
                                                     : v % 1000;
        d = v & 2 ? d : -d;
        memcpy(to, &d, 16);
        return width_of(kind, m->type.precision);
    }
    default:
        CHECK(kind == LAKE_UUID);
        for (int i = 0; i < 16; i += 8) {
            uint64_t half = __builtin_bswap64(m->shape == RANDOM ? v * (uint64_t)(i + 1) : v);
            memcpy(to + i, &half, 8);
        }
        return 16;
    }
    memcpy(to, &i64, 8);
    return 8;
}

static uint32_t make_float(struct maker *m, enum lake_kind kind, uint64_t v, uint8_t *to) {
    static const double edges[] = { 0.0, -0.0, 1.5, -2.25, 1e300, -1e-300 };
    double d = m->shape == RANDOM ? (double)(int64_t)v / 1e6 : (double)(int64_t)(v % 100000) / 8;
    if (m->shape == EDGE) {
        d = edges[v % 2];
        d = v % 7 == 0 ? __builtin_nan("") : d;
    } else if (m->shape == RANDOM && v % 50 == 0) {
        d = v & 64 ? __builtin_nan("") : v & 128 ? __builtin_inf() : -__builtin_inf();
    } else if (v % 50 == 1) {
        d = edges[v % ARRAY_COUNT(edges)];
    }
    float f = (float)d;
    if (kind == LAKE_FLOAT) {
        memcpy(to, &f, 4);
        return 4;
    }
    memcpy(to, &d, 8);
    return 8;
}

static uint32_t make_cell(struct maker *m, uint64_t row, uint8_t *to) {
    enum lake_kind kind = m->type.kind == LAKE_LIST ? m->type.element : m->type.kind;
    uint64_t v = choose(m, row);
    switch (kind) {
    case LAKE_STRING:
    case LAKE_BINARY:
        return make_text(m, v, kind == LAKE_STRING, to);
    case LAKE_FLOAT:
    case LAKE_DOUBLE:
        return make_float(m, kind, v, to);
    default:
        return make_number(m, kind, v, to);
    }
}

static bool make_null(const struct maker *m, uint64_t row) {
    if (m->shape == NOTHING) {
        return true;
    }
    if (m->shape == SPARSE) {
        return below(200) != 0;
    }
    if (m->shape == BLOCKS) {
        return row / 2500 % 2 == 0;
    }
    return below(12) == 0;
}

/* Cells of one column for one call of parquet_writer_add. */
struct cells {
    uint8_t valid[ADD_ROWS_MAX / 8 + 1];
    uint8_t *element_valid, *data;
    uint32_t *offsets, *list_offsets;
    size_t data_len, data_cap, count, count_cap;
    struct lake_column elements;
};

static void put_cell(struct cells *c, uint32_t width, bool null, const uint8_t *cell,
                     uint32_t len) {
    if (c->count + 2 > c->count_cap) {
        size_t old = c->count_cap;
        c->count_cap = c->count_cap ? c->count_cap * 2 : 1024;
        c->offsets = xrealloc(c->offsets, c->count_cap * sizeof *c->offsets);
        c->element_valid = xrealloc(c->element_valid, c->count_cap / 8);
        memset(c->element_valid + old / 8, 0, (c->count_cap - old) / 8);
    }
    size_t need = c->data_len + len + width + 16;
    if (need > c->data_cap) {
        c->data_cap = need * 2;
        c->data = xrealloc(c->data, c->data_cap);
    }
    c->offsets[c->count] = (uint32_t)c->data_len;
    if (null) {
        bit_clear(c->element_valid, (uint32_t)c->count);
        memset(c->data + c->data_len, 0xAA, width); /* of fixed cells: anything */
        c->data_len += width;
    } else {
        bit_set(c->element_valid, (uint32_t)c->count);
        memcpy(c->data + c->data_len, cell, len);
        c->data_len += len;
    }
    c->offsets[++c->count] = (uint32_t)c->data_len;
}

static void put_truth(FILE *truth, bool null, const uint8_t *cell, uint32_t len) {
    static const char digits[] = "0123456789abcdef";
    static char line[2 * CELL_MAX];
    if (null) {
        fputc('N', truth);
        return;
    }
    for (uint32_t i = 0; i < len; i++) {
        line[2 * i] = digits[cell[i] >> 4];
        line[2 * i + 1] = digits[cell[i] & 15];
    }
    fputc('=', truth);
    fwrite(line, 1, 2 * (size_t)len, truth);
}

static void make_row(struct maker *m, struct cells *c, uint32_t width, uint64_t row, uint32_t at,
                     FILE *truth) {
    static uint8_t cell[CELL_MAX];
    bool null = !m->required && make_null(m, row);
    if (!null) {
        bit_set(c->valid, at);
    }
    if (m->type.kind != LAKE_LIST) {
        uint32_t len = null ? 0 : make_cell(m, row, cell);
        put_cell(c, width, null, cell, len);
        put_truth(truth, null, cell, len);
        fputc('\n', truth);
        return;
    }
    c->list_offsets[at] = (uint32_t)c->count;
    uint32_t n = null || below(5) == 0 ? 0 : below(1000) == 0 ? 500 : below(6);
    fputs(null ? "N" : "[", truth);
    for (uint32_t i = 0; i < n; i++) {
        bool no_value = below(6) == 0;
        uint32_t len = no_value ? 0 : make_cell(m, row, cell);
        put_cell(c, width, no_value, cell, len);
        fputs(i > 0 ? "," : "", truth);
        put_truth(truth, no_value, cell, len);
    }
    fputs(null ? "\n" : "]\n", truth);
    c->list_offsets[at + 1] = (uint32_t)c->count;
}

static void make_column(struct maker *m, struct cells *c, uint64_t first, uint32_t rows,
                        FILE *truth, struct lake_column *out) {
    memset(c->valid, 0, sizeof c->valid);
    c->data_len = c->count = 0;
    if (!c->list_offsets) {
        c->list_offsets = xcalloc(ADD_ROWS_MAX + 1, sizeof *c->list_offsets);
    }
    c->list_offsets[0] = 0;
    bool list = m->type.kind == LAKE_LIST;
    uint32_t width = width_of(list ? m->type.element : m->type.kind, m->type.precision);
    put_cell(c, width, true, NULL, 0); /* so that there is memory even for nothing */
    c->data_len = c->count = 0;
    for (uint32_t i = 0; i < rows; i++) {
        make_row(m, c, width, first + i, i, truth);
    }
    struct lake_column cells = { .type = m->type,
                                 .rows = list ? (uint32_t)c->count : rows,
                                 .width = width,
                                 .valid = list          ? c->element_valid
                                          : m->required ? NULL
                                                        : c->valid,
                                 .data = c->data,
                                 .offsets = width ? NULL : c->offsets };
    if (!list) {
        *out = cells;
        return;
    }
    cells.type = (struct lake_type){ .kind = m->type.element,
                                     .precision = m->type.precision,
                                     .scale = m->type.scale };
    c->elements = cells;
    *out = (struct lake_column){ .type = m->type,
                                 .rows = rows,
                                 .valid = m->required ? NULL : c->valid,
                                 .offsets = c->list_offsets,
                                 .elements = &c->elements };
}

static void add_maker(struct lake_type type, enum shape shape, bool required, bool bloom) {
    CHECK(maker_count < COLUMNS_MAX);
    struct maker *m = &makers[maker_count];
    *m = (struct maker){ .type = type, .shape = shape, .required = required, .bloom = bloom };
    snprintf(m->name, sizeof m->name, "c%u_k%d_e%d_p%u_s%d%s", maker_count, type.kind, type.element,
             type.precision, shape, required ? "_required" : "");
    m->value = UINT64_C(1) << 40;
    maker_count++;
}

static void add_makers(void) {
    static const uint8_t precisions[] = { 1, 9, 10, 18, 19, 28, 38 };
    for (enum lake_kind kind = LAKE_BOOL; kind < LAKE_LIST; kind++) {
        uint32_t count = kind == LAKE_DECIMAL ? ARRAY_COUNT(precisions) : 1;
        for (uint32_t i = 0; i < count; i++) {
            uint8_t precision = kind == LAKE_DECIMAL ? precisions[i] : 0;
            uint8_t scale = precision / 3;
            struct lake_type type = { kind, 0, precision, scale };
            for (enum shape shape = RANDOM; shape < SHAPES; shape++) {
                bool rare = kind == LAKE_DECIMAL && shape > FEW && shape != NOTHING;
                bool text = kind == LAKE_STRING || kind == LAKE_BINARY;
                if (!rare && (kind != LAKE_BOOL || shape != SOME) && (shape != LARGE || text)) {
                    add_maker(type, shape, shape == FALLING || (shape == SOME && kind != LAKE_DATE),
                              kind != LAKE_BOOL && (shape == RANDOM || shape == FEW));
                }
            }
            add_maker((struct lake_type){ LAKE_LIST, kind, precision, scale },
                      (enum shape)(kind % 2), i % 2 == 1 || kind == LAKE_LONG, false);
        }
    }
}

static int write_file(void *arg, const void *p, size_t n, struct err *err) {
    if (fwrite(p, 1, n, arg) != n) {
        return err_set(err, ERR_FATAL, "write", "cannot write");
    }
    return 0;
}

static struct parquet_writer *open_writer(char **argv, FILE *file) {
    static struct parquet_field fields[COLUMNS_MAX];
    for (uint32_t i = 0; i < maker_count; i++) {
        fields[i] =
            (struct parquet_field){ .name = makers[i].name,
                                    .type = makers[i].type,
                                    .field_id = (int32_t)i + 1,
                                    .element_id =
                                        makers[i].type.kind == LAKE_LIST ? 1000 + (int32_t)i : 0,
                                    .required = makers[i].required,
                                    .bloom = makers[i].bloom };
    }
    static const char *const extra[] = { "tailrace.test", "a value", "empty", "", NULL };
    struct parquet_options options = {
        .codec = strcmp(argv[4], "zstd") == 0     ? PARQUET_ZSTD
                 : strcmp(argv[4], "snappy") == 0 ? PARQUET_SNAPPY
                 : strcmp(argv[4], "lz4") == 0    ? PARQUET_LZ4_RAW
                                                  : PARQUET_NONE,
        .level = atoi(argv[5]),
        .profile = strcmp(argv[6], "modern") == 0 ? PARQUET_MODERN : PARQUET_COMPATIBLE,
        .group_rows = (uint32_t)atoi(argv[7]),
        .group_bytes = (uint64_t)atoll(argv[8]),
        .page_bytes = (uint32_t)atoi(argv[9]),
        .extra = extra,
    };
    return parquet_writer_new(fields, maker_count, &options,
                              (struct parquet_output){ write_file, file });
}

static void put_hex(FILE *truth, const uint8_t *p, size_t n) {
    fputs(" =", truth);
    for (size_t i = 0; i < n; i++) {
        fprintf(truth, "%02x", p[i]);
    }
}

static void put_info(FILE *truth, struct parquet_info *info) {
    fprintf(truth, "info %llu %llu", (unsigned long long)info->rows,
            (unsigned long long)info->bytes);
    for (uint32_t i = 0; i < info->group_count; i++) {
        fprintf(truth, " %llu", (unsigned long long)info->group_offsets[i]);
    }
    fputc('\n', truth);
    for (uint32_t i = 0; i < info->column_count; i++) {
        const struct parquet_column_info *c = &info->columns[i];
        fprintf(truth, "leaf %llu %llu %llu %llu", (unsigned long long)c->bytes,
                (unsigned long long)c->values, (unsigned long long)c->nulls,
                (unsigned long long)c->nans);
        if (c->has_bounds) {
            put_hex(truth, c->lower, c->lower_len);
            put_hex(truth, c->upper, c->upper_len);
        }
        fputc('\n', truth);
    }
}

/* The truth is by column, rows come by pieces: a file a column in memory, put together at the end.
 */
int main(int argc, char **argv) {
    CHECK(argc == 10);
    seed = strtoull(argv[2], NULL, 10);
    uint64_t rows = strtoull(argv[3], NULL, 10);
    add_makers();
    char name[600];
    snprintf(name, sizeof name, "%s.parquet", argv[1]);
    FILE *file = fopen(name, "wb");
    snprintf(name, sizeof name, "%s.truth", argv[1]);
    FILE *truth = fopen(name, "w");
    CHECK(file && truth);
    struct parquet_writer *w = open_writer(argv, file);
    struct cells *cells = xcalloc(maker_count, sizeof *cells);
    struct lake_column *columns = xcalloc(maker_count, sizeof *columns);
    FILE **parts = xcalloc(maker_count, sizeof *parts);
    char **texts = xcalloc(maker_count, sizeof *texts);
    size_t *lens = xcalloc(maker_count, sizeof *lens);
    struct err err = ERR_INIT;
    for (uint32_t i = 0; i < maker_count; i++) {
        parts[i] = open_memstream(&texts[i], &lens[i]);
    }
    for (uint64_t at = 0; at < rows;) {
        uint32_t n = 1 + below(below(4) == 0 ? 10 : ADD_ROWS_MAX - 1);
        n = n < rows - at ? n : (uint32_t)(rows - at);
        for (uint32_t i = 0; i < maker_count; i++) {
            make_column(&makers[i], &cells[i], at, n, parts[i], &columns[i]);
        }
        if (parquet_writer_add(w, columns, n, &err) ||
            (below(12) == 0 && parquet_writer_flush(w, &err))) {
            fprintf(stderr, "%s\n", err.text);
            return 1;
        }
        at += n;
    }
    struct parquet_info info;
    CHECK(parquet_writer_rows(w) == rows && parquet_writer_finish(w, &info, &err) == 0);
    for (uint32_t i = 0; i < maker_count; i++) {
        const struct maker *m = &makers[i];
        fclose(parts[i]);
        fprintf(truth, "column %s %d %d %u %u %d %d\n", m->name, m->type.kind, m->type.element,
                m->type.precision, m->type.scale, m->required, m->bloom);
        fwrite(texts[i], 1, lens[i], truth);
        free(texts[i]);
        free(cells[i].element_valid);
        free(cells[i].data);
        free(cells[i].offsets);
        free(cells[i].list_offsets);
    }
    put_info(truth, &info);
    parquet_info_release(&info);
    parquet_writer_free(w);
    free(cells);
    free(columns);
    free(parts);
    free(texts);
    free(lens);
    return fclose(truth) || fclose(file);
}
