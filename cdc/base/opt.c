/* Options: checks text against a component's table, says what is wrong in words a person can act
 * on, keeps the values. Tables are short, so keys are searched in a line. Values of secret options
 * are never quoted. One owner, no thread safety. */
#include "cdc/base/opt.h"

#include <stdlib.h>

struct value {
    char *text;     /* NULL: unset and without default */
    int64_t number; /* COUNT, BYTES, DURATION (us), BOOL (0 or 1) */
    bool set;
};
struct opts {
    const struct opt_spec *table;
    size_t count;
    struct value *values; /* [count] */
};
struct unit {
    const char *name;
    int64_t factor;
};

static const struct unit byte_units[] = {
    { "KiB", INT64_C(1) << 10 }, { "MiB", INT64_C(1) << 20 },
    { "GiB", INT64_C(1) << 30 }, { "kB", 1000 },
    { "MB", 1000000 },           { "GB", 1000000000 },
};
static const struct unit duration_units[] = {
    { "ms", 1000 },
    { "s", 1000000 },
    { "m", INT64_C(60) * 1000000 },
    { "h", INT64_C(3600) * 1000000 },
};

/* Digits only, at least one; *rest is what stands behind them. */
static int parse_digits(const char *s, int64_t *out, const char **rest) {
    int64_t v = 0;
    const char *at = s;
    for (; *at >= '0' && *at <= '9'; at++) {
        if (__builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, *at - '0', &v)) {
            return -1;
        }
    }
    if (at == s) {
        return -1;
    }
    *out = v;
    *rest = at;
    return 0;
}

static int parse_with_unit(const char *s, const struct unit *units, size_t unit_count,
                           int64_t *out) {
    int64_t v;
    const char *rest;
    if (parse_digits(s, &v, &rest)) {
        return -1;
    }
    for (size_t i = 0; i < unit_count; i++) {
        if (strcmp(rest, units[i].name) == 0) {
            int64_t product;
            if (__builtin_mul_overflow(v, units[i].factor, &product)) {
                return -1;
            }
            *out = product;
            return 0;
        }
    }
    return -1;
}

int opt_parse_bytes(const char *s, int64_t *out) {
    return parse_with_unit(s, byte_units, ARRAY_COUNT(byte_units), out);
}

int opt_parse_duration(const char *s, int64_t *out_us) {
    return parse_with_unit(s, duration_units, ARRAY_COUNT(duration_units), out_us);
}

static int parse_count(const char *s, int64_t *out) {
    int64_t v;
    const char *rest;
    if (parse_digits(s, &v, &rest) || *rest != '\0') {
        return -1;
    }
    *out = v;
    return 0;
}

static int parse_bool(const char *s, int64_t *out) {
    static const char *const words[] = { "off", "on", "false", "true", "no", "yes", "0", "1" };
    for (size_t i = 0; i < ARRAY_COUNT(words); i++) {
        if (strcmp(s, words[i]) == 0) {
            *out = (int64_t)(i % 2);
            return 0;
        }
    }
    return -1;
}

enum { WORD_BYTES_MAX = 64 };

static char lower(char c) { return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c; }

/* Edits (insert, delete, replace, swap two neighbours) between two words, upper and lower case
 * being equal. */
static size_t edit_distance(const char *a, size_t a_len, const char *b, size_t b_len) {
    size_t rows[3][WORD_BYTES_MAX + 1];
    size_t *before = rows[0]; /* of a's prefix two shorter, one shorter, and the current one */
    size_t *last = rows[1];
    size_t *now = rows[2];
    for (size_t j = 0; j <= b_len; j++) {
        before[j] = last[j] = j;
    }
    for (size_t i = 1; i <= a_len; i++) {
        now[0] = i;
        for (size_t j = 1; j <= b_len; j++) {
            char x = lower(a[i - 1]);
            char y = lower(b[j - 1]);
            size_t best = last[j - 1] + (x != y);
            best = last[j] + 1 < best ? last[j] + 1 : best;
            best = now[j - 1] + 1 < best ? now[j - 1] + 1 : best;
            if (i > 1 && j > 1 && x == lower(b[j - 2]) && y == lower(a[i - 2]) &&
                before[j - 2] + 1 < best) {
                best = before[j - 2] + 1;
            }
            now[j] = best;
        }
        size_t *oldest = before;
        before = last;
        last = now;
        now = oldest;
    }
    return last[b_len];
}

const char *opt_nearest(const char *word, const char *const *words, size_t count) {
    size_t len = strlen(word);
    const char *nearest = NULL;
    size_t least = SIZE_MAX;
    for (size_t i = 0; i < count && len <= WORD_BYTES_MAX; i++) {
        size_t other = strlen(words[i]);
        if (other > WORD_BYTES_MAX) {
            continue;
        }
        size_t distance = edit_distance(word, len, words[i], other);
        if (distance * 3 <= (len > other ? len : other) && distance < least) {
            least = distance;
            nearest = words[i];
        }
    }
    return nearest;
}

/* The index of the key in the table, or the table's length. */
static size_t key_find(const struct opts *o, const char *key) {
    size_t i = 0;
    while (i < o->count && strcmp(o->table[i].key, key) != 0) {
        i++;
    }
    return i;
}

/* "a|b|c" as a list with commas. */
static void put_choices(struct buf *out, const char *choices) {
    for (const char *at = choices; *at; at++) {
        if (*at == '|') {
            buf_puts(out, ", ");
        } else {
            buf_putc(out, *at);
        }
    }
}

static bool choice_has(const char *choices, const char *value) {
    size_t len = strlen(value);
    for (const char *at = choices;;) {
        size_t word = strcspn(at, "|");
        if (word == len && memcmp(at, value, len) == 0) {
            return true;
        }
        if (at[word] == '\0') {
            return false;
        }
        at += word + 1;
    }
}

/* "" if the value is right, else what is wrong with it (behind `option "key": "value" `); fills
 * *number. */
static const char *value_check(const struct opt_spec *spec, const char *value, int64_t *number) {
    *number = 0;
    int bad = 0;
    const char *what = "";
    switch (spec->type) {
    case OPT_TEXT:
        return "";
    case OPT_CHOICE:
        return choice_has(spec->choices, value) ? "" : "is none of its values";
    case OPT_BOOL:
        return parse_bool(value, number) ? "is neither on nor off" : "";
    case OPT_COUNT:
        bad = parse_count(value, number);
        what = "is not a whole number";
        break;
    case OPT_BYTES:
        bad = opt_parse_bytes(value, number);
        what = "is not a size: a whole number and a unit";
        break;
    case OPT_DURATION:
        bad = opt_parse_duration(value, number);
        what = "is not a duration: a whole number and a unit";
        break;
    }
    if (bad) {
        return what;
    }
    if (*number < spec->min) {
        return "is too small";
    }
    return spec->max > 0 && *number > spec->max ? "is too large" : "";
}

/* A number the way a person would write it: in the largest unit that divides it. */
static void put_number(struct buf *out, enum opt_type type, int64_t v) {
    static const struct unit bytes[] = { { "GiB", INT64_C(1) << 30 }, { "MiB", INT64_C(1) << 20 },
                                         { "KiB", INT64_C(1) << 10 }, { "GB", 1000000000 },
                                         { "MB", 1000000 },           { "kB", 1000 } };
    static const struct unit durations[] = { { "h", INT64_C(3600) * 1000000 },
                                             { "m", INT64_C(60) * 1000000 },
                                             { "s", 1000000 },
                                             { "ms", 1000 } };
    const struct unit *units = type == OPT_BYTES ? bytes : durations;
    size_t count = type == OPT_BYTES      ? ARRAY_COUNT(bytes)
                   : type == OPT_DURATION ? ARRAY_COUNT(durations)
                                          : 0;
    for (size_t i = 0; i < count; i++) {
        if (v != 0 && v % units[i].factor == 0) {
            buf_put_i64(out, v / units[i].factor);
            buf_puts(out, units[i].name);
            return;
        }
    }
    buf_put_i64(out, v);
    if (count > 0) {
        buf_puts(out, type == OPT_BYTES ? (v ? " bytes" : "kB") : (v ? "us" : "s"));
    }
}

static void put_cure(struct buf *out, const struct opt_spec *spec) {
    switch (spec->type) {
    case OPT_TEXT:
        break;
    case OPT_CHOICE:
        buf_putf(out, "use one of ");
        put_choices(out, spec->choices);
        break;
    case OPT_BOOL:
        buf_putf(out, "use %s=on or %s=off", spec->key, spec->key);
        break;
    case OPT_COUNT:
        buf_puts(out, "use a bare number");
        break;
    case OPT_BYTES:
        buf_puts(out, "use a number and one of KiB MiB GiB (1024) kB MB GB (1000)");
        break;
    case OPT_DURATION:
        buf_puts(out, "use a number and one of ms s m h");
        break;
    }
    if (spec->type == OPT_COUNT || spec->type == OPT_BYTES || spec->type == OPT_DURATION) {
        if (spec->min > 0) {
            buf_puts(out, ", at least ");
            put_number(out, spec->type, spec->min);
        }
        if (spec->max > 0) {
            buf_puts(out, ", at most ");
            put_number(out, spec->type, spec->max);
        }
        if (spec->fallback) {
            buf_putf(out, ", e.g. %s=%s", spec->key, spec->fallback);
        }
    }
}

/* The nearest of "a|b|c", in a buffer; "" if none is near. */
static void put_nearest_choice(struct buf *out, const char *choices, const char *value) {
    char *copy = xstrdup(choices);
    const char *words[64];
    size_t count = 0;
    char *rest = copy;
    for (char *word = strsep(&rest, "|"); word && count < ARRAY_COUNT(words);
         word = strsep(&rest, "|")) {
        words[count++] = word;
    }
    const char *nearest = opt_nearest(value, words, count);
    if (nearest) {
        buf_putf(out, " (did you mean \"%s\"?)", nearest);
    }
    free(copy);
}

static int value_refused(const struct opt_spec *spec, const char *value, const char *what,
                         struct err *err) {
    struct buf cure;
    struct buf hint;
    buf_init(&cure, SIZE_MAX);
    buf_init(&hint, SIZE_MAX);
    put_cure(&cure, spec);
    if (spec->secret) {
        err_set(err, ERR_FATAL, "option_value", "option \"%s\": its value %s", spec->key, what);
    } else {
        if (spec->type == OPT_CHOICE) {
            put_nearest_choice(&hint, spec->choices, value);
        }
        err_set(err, ERR_FATAL, "option_value", "option \"%s\": \"%.200s\" %s%s", spec->key, value,
                what, buf_cstr(&hint));
    }
    err_exit(err, EXIT_USAGE);
    err_cure(err, "%s", buf_cstr(&cure));
    buf_release(&hint);
    buf_release(&cure);
    return -1;
}

static int key_refused(const struct opts *o, const char *key, struct err *err) {
    const char **keys = xcalloc(o->count, sizeof *keys);
    struct buf cure;
    buf_init(&cure, SIZE_MAX);
    buf_puts(&cure, o->count > 0 ? "the options are: " : "there are no options here");
    for (size_t i = 0; i < o->count; i++) {
        keys[i] = o->table[i].key;
        buf_putf(&cure, "%s%s", i > 0 ? ", " : "", keys[i]);
    }
    const char *nearest = opt_nearest(key, keys, o->count);
    if (nearest) {
        err_set(err, ERR_FATAL, "option_unknown",
                "unknown option \"%.200s\" (did you mean \"%s\"?)", key, nearest);
    } else {
        err_set(err, ERR_FATAL, "option_unknown", "unknown option \"%.200s\"", key);
    }
    err_exit(err, EXIT_USAGE);
    err_cure(err, "%s", buf_cstr(&cure));
    buf_release(&cure);
    free(keys);
    return -1;
}

struct opts *opts_new(const struct opt_spec *table) {
    struct opts *o = xcalloc(1, sizeof *o);
    o->table = table;
    while (table[o->count].key) {
        o->count++;
    }
    o->values = xcalloc(o->count, sizeof *o->values);
    for (size_t i = 0; i < o->count; i++) {
        CHECK(table[i].type != OPT_CHOICE || table[i].choices);
        CHECK(key_find(o, table[i].key) == i);
        if (table[i].fallback) {
            const char *what = value_check(&table[i], table[i].fallback, &o->values[i].number);
            CHECK(what[0] == '\0');
            o->values[i].text = xstrdup(table[i].fallback);
        }
    }
    return o;
}

void opts_free(struct opts *o) {
    if (o) {
        for (size_t i = 0; i < o->count; i++) {
            free(o->values[i].text);
        }
        free(o->values);
        free(o);
    }
}

int opts_set(struct opts *o, const char *key, const char *value, struct err *err) {
    size_t i = key_find(o, key);
    if (i == o->count) {
        return key_refused(o, key, err);
    }
    int64_t number;
    const char *what = value_check(&o->table[i], value, &number);
    if (what[0]) {
        return value_refused(&o->table[i], value, what, err);
    }
    char *text = xstrdup(value); /* before the old one is freed: they may be the same */
    free(o->values[i].text);
    o->values[i] = (struct value){ .text = text, .number = number, .set = true };
    return 0;
}

static const struct value *value_of(const struct opts *o, const char *key, size_t *at) {
    *at = key_find(o, key);
    CHECK(*at < o->count);
    return &o->values[*at];
}

bool opts_is_set(const struct opts *o, const char *key) {
    size_t at;
    return value_of(o, key, &at)->set;
}

const char *opts_text(const struct opts *o, const char *key) {
    size_t at;
    return value_of(o, key, &at)->text;
}

bool opts_bool(const struct opts *o, const char *key) {
    size_t at;
    const struct value *value = value_of(o, key, &at);
    CHECK(o->table[at].type == OPT_BOOL);
    return value->number != 0;
}

int64_t opts_int(const struct opts *o, const char *key) {
    size_t at;
    const struct value *value = value_of(o, key, &at);
    enum opt_type type = o->table[at].type;
    CHECK(type == OPT_COUNT || type == OPT_BYTES || type == OPT_DURATION);
    return value->number;
}

const struct opt_spec *opts_table(const struct opts *o) { return o->table; }
