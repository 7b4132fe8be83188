/* Bytes of a real PostgreSQL server (capture_postgres.py) through the decoders. Values: the binary
 * and the text form of one value must give the same cell, and the cell's text must be the expected
 * one. pgoutput: whole scripts, to rows. GOLDEN_WRITE=1 in the environment writes the .expected.txt
 * files anew; read the difference before it is committed. */
#include <string.h>

#include "tests/unit/kit.h"
#include "tests/unit/u_pg_kit.h"

static bool read_file(const char *name, struct buf *out) {
    FILE *f = fopen(kit_text(GOLDEN_DIR "/%s", name), "rb");
    char block[4096];
    for (size_t n; f && (n = fread(block, 1, sizeof(block), f)) > 0;) {
        buf_put(out, block, n);
    }
    return f && fclose(f) == 0;
}

static void expect_file(const char *name, struct buf *got) {
    const char *write = getenv("GOLDEN_WRITE");
    if (write && *write) {
        FILE *f = fopen(kit_text(GOLDEN_DIR "/%s", name), "wb");
        EXPECT_TRUE(f && fwrite(got->data, 1, got->len, f) == got->len && fclose(f) == 0);
        return;
    }
    struct buf want;
    buf_init(&want, SIZE_MAX);
    if (EXPECT_TRUE(read_file(name, &want))) {
        /* Line by line, so that a failure shows the first that differs. */
        char *g = strdup(buf_cstr(got));
        char *w = strdup(buf_cstr(&want));
        char *g_rest = g;
        char *w_rest = w;
        bool same = true;
        while (same && (g_rest || w_rest)) {
            same = EXPECT_EQ_STR(strsep(&g_rest, "\n"), strsep(&w_rest, "\n"));
        }
        free(g);
        free(w);
    }
    buf_release(&want);
}

static int nibble(char c) { return c <= '9' ? c - '0' : c - 'a' + 10; }

/* Hex, in place of the text; returns the number of bytes. */
static size_t unhex(char *text) {
    size_t len = strlen(text) / 2;
    for (size_t i = 0; i < len; i++) {
        text[i] = (char)(nibble(text[2 * i]) << 4 | nibble(text[2 * i + 1]));
    }
    return len;
}

/* \xx of the files, in place. */
static size_t unescape(char *text) {
    char *to = text;
    for (const char *at = text; *at; to++) {
        if (*at == '\\') {
            *to = (char)(nibble(at[1]) << 4 | nibble(at[2]));
            at += 3;
        } else {
            *to = *at++;
        }
    }
    return (size_t)(to - text);
}

/* A line that tells of a user type, or a comment. */
static bool catalog_line(struct pgk *k, const char *line) {
    uint32_t oid;
    uint32_t base;
    uint32_t element;
    int32_t mod;
    char kind;
    char element_kind;
    if (sscanf(line, "catalog %" SCNu32 " %c %" SCNu32 " %" SCNd32 " %" SCNu32 " %c", &oid, &kind,
               &base, &mod, &element, &element_kind) == 6) {
        pgk_add_type(k, oid, kind, base, mod, element, element_kind);
        return true;
    }
    return *line == '#' || *line == '\0';
}

/* The kinds whose text here is the server's own. */
static bool same_text(const struct type *t) {
    switch (t->kind) {
    case TYPE_INT16:
    case TYPE_INT32:
    case TYPE_INT64:
    case TYPE_UINT32:
    case TYPE_DECIMAL:
    case TYPE_NUMERIC:
    case TYPE_TEXT:
    case TYPE_BYTES:
    case TYPE_JSON:
    case TYPE_ENUM:
    case TYPE_UUID:
    case TYPE_BIT:
    case TYPE_OTHER:
        return true;
    default:
        return false;
    }
}

struct value_line {
    char *name;
    uint32_t oid;
    int32_t mod;
    char *binary;
    size_t binary_len;
    char *text;
    size_t text_len;
};

static bool value_line(char *line, struct value_line *v) {
    char *rest = line;
    char *field[5];
    for (size_t i = 0; i < ARRAY_COUNT(field); i++) {
        field[i] = strsep(&rest, " ");
    }
    if (!field[4] || rest) {
        return false;
    }
    *v = (struct value_line){ .name = field[0],
                              .oid = (uint32_t)strtoul(field[1], NULL, 10),
                              .mod = (int32_t)strtol(field[2], NULL, 10),
                              .binary = field[3],
                              .text = field[4] };
    v->binary_len = strcmp(field[3], ".") == 0 ? 0 : unhex(field[3]);
    v->text_len = strcmp(field[4], ".") == 0 ? 0 : unescape(field[4]);
    return true;
}

/* Rows 0 and 1 of a batch: the value from its text and, if it is read, its binary form. */
static void check_value(struct pgk *k, const struct value_line *v, struct buf *out) {
    struct schema *s = pgk_schema_of(k, v->oid, v->mod);
    struct pgsrc_plan *plan = pgsrc_plan_new(s, pgk_lookup, k);
    struct batch *b = batch_new(s, 8, NULL);
    struct err err = ERR_INIT;
    bool binary = pgsrc_reads_binary(v->oid, &s->columns[0].type, pgk_lookup, k);
    const struct column *c = &b->columns[0];
    buf_putf(out, "%s %s ", v->name, s->columns[0].source_type);
    if (pgsrc_cell_text(plan, b, 0, (const uint8_t *)v->text, v->text_len, &err) == 0) {
        batch_row_done(b, ROW_INSERT, 0, 0);
        size_t from = out->len;
        pgk_put_cell(out, b, 0, 0);
        if (same_text(&s->columns[0].type) && !(v->oid == 18 && (v->text[0] & 0x80))) {
            EXPECT_EQ_MEM(out->data + from, out->len - from, v->text, v->text_len);
        }
    } else {
        EXPECT_EQ_STR(err.text, v->name);
    }
    int got = pgsrc_cell_binary(plan, b, 0, (const uint8_t *)v->binary, v->binary_len, &err);
    EXPECT_EQ_INT(got, binary ? 0 : -1);
    if (binary && got == 0 && b->rows == 1) {
        batch_row_done(b, ROW_INSERT, 0, 0);
        size_t text_len;
        size_t binary_len;
        const uint8_t *of_text = cell_bytes(c, 0, &text_len);
        const uint8_t *of_binary = cell_bytes(c, 1, &binary_len);
        if (!EXPECT_EQ_MEM(of_binary, binary_len, of_text, text_len)) {
            EXPECT_EQ_STR("the forms differ", v->name);
        }
    } else if (!binary) {
        EXPECT_EQ_STR(err.code, "binary_unsupported");
        buf_puts(out, " (text only)");
    }
    buf_putc(out, '\n');
    batch_unref(b);
    pgsrc_plan_free(plan);
    schema_unref(s);
}

TEST(golden_values_are_the_same_from_binary_and_from_text) {
    struct buf file;
    struct buf out;
    buf_init(&file, SIZE_MAX);
    buf_init(&out, SIZE_MAX);
    struct pgk k = { 0 };
    int count = 0;
    if (EXPECT_TRUE(read_file("values.txt", &file))) {
        char *rest = strdup(buf_cstr(&file));
        char *text = rest;
        for (char *line; (line = strsep(&rest, "\n"));) {
            struct value_line v = { 0 };
            if (!catalog_line(&k, line) && EXPECT_TRUE(value_line(line, &v))) {
                check_value(&k, &v, &out);
                count++;
            }
        }
        free(text);
    }
    EXPECT_TRUE(count > 200);
    expect_file("values.expected.txt", &out);
    buf_release(&file);
    buf_release(&out);
}

/* Decodes a file of messages. Segments are taken at each commit, or after every message. */
static void decode_messages(const char *name, bool every, struct buf *out) {
    struct buf file;
    buf_init(&file, SIZE_MAX);
    struct pgk k = { 0 };
    struct pgsrc_pgoutput_calls calls = { .relation = pgk_relation, .arg = &k };
    struct pgsrc_pgoutput *d = pgsrc_pgoutput_new(&calls);
    struct err err = ERR_INIT;
    if (EXPECT_TRUE(read_file(name, &file))) {
        char *rest = strdup(buf_cstr(&file));
        char *text = rest;
        for (char *line; (line = strsep(&rest, "\n"));) {
            if (*line == '#' && !every) {
                buf_putf(out, "%s\n", line);
            }
            if (catalog_line(&k, line)) {
                continue;
            }
            size_t len = unhex(line);
            if (pgsrc_pgoutput_message(d, (const uint8_t *)line, len, LOGPOS_NONE, &err) != 0) {
                buf_putf(out, "error %s: %s; %s\n", err.code, err.text, err.cure);
                break;
            }
            struct segment *s =
                every || !pgsrc_pgoutput_in_transaction(d) ? pgsrc_pgoutput_take(d) : NULL;
            if (s) {
                pgk_put_segment(out, s);
                segment_free(s);
                EXPECT_EQ_INT(pgsrc_pgoutput_bytes(d), 0);
            }
        }
        free(text);
    }
    pgsrc_pgoutput_free(d);
    pgk_release(&k);
    buf_release(&file);
}

/* Only the lines of rows. */
static const char *rows_of(struct buf *text, struct buf *out) {
    char *rest = strdup(buf_cstr(text));
    char *from = rest;
    for (char *line; (line = strsep(&rest, "\n"));) {
        if (strncmp(line, "public.", 7) == 0) {
            buf_putf(out, "%s\n", line);
        }
    }
    free(from);
    return buf_cstr(out);
}

static void check_messages(const char *name) {
    struct buf out;
    struct buf apart;
    struct buf rows;
    struct buf rows_apart;
    buf_init(&out, SIZE_MAX);
    buf_init(&apart, SIZE_MAX);
    buf_init(&rows, SIZE_MAX);
    buf_init(&rows_apart, SIZE_MAX);
    decode_messages(kit_text("%s.txt", name), false, &out);
    expect_file(kit_text("%s.expected.txt", name), &out);
    decode_messages(kit_text("%s.txt", name), true, &apart);
    EXPECT_EQ_STR(rows_of(&apart, &rows_apart), rows_of(&out, &rows));
    EXPECT_TRUE(rows.len > 0);
    buf_release(&out);
    buf_release(&apart);
    buf_release(&rows);
    buf_release(&rows_apart);
}

TEST(golden_changes_as_text) { check_messages("changes_text"); }
TEST(golden_changes_as_binary) { check_messages("changes_binary"); }
TEST(golden_identities_as_text) { check_messages("identities_text"); }
TEST(golden_identities_as_binary) { check_messages("identities_binary"); }
TEST(golden_schema_changes_as_text) { check_messages("schema_changes_text"); }
TEST(golden_schema_changes_as_binary_end_at_a_type_without_support) {
    check_messages("schema_changes_binary");
}
