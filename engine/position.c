/* See position.h. jansson proves that the text is JSON without doubled keys; a scan over the proven
 * text then gives the spans of the members, so that what belongs to others is kept byte for byte.
 */
#include "engine/position.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "cdc/source_call.h"

void stored_position_release(struct stored_position *p) {
    free(p->lineage);
    free(p->hybrid);
    *p = (struct stored_position){ 0 };
}

int position_open(struct buf *out, const struct source_ops *source, const char *lineage,
                  struct logpos applied, struct logpos resume, uint64_t x, struct err *err) {
    buf_putf(out, "{\"v\":1,\"source\":%s,\"applied\":\"", lineage);
    if (source_put_logpos(source, out, applied)) {
        return err_set(err, ERR_FATAL, "position_too_long",
                       "the applied position cannot be written");
    }
    buf_puts(out, "\",\"resume\":\"");
    if (source_put_logpos(source, out, resume)) {
        return err_set(err, ERR_FATAL, "position_too_long",
                       "the resume position cannot be written");
    }
    buf_putf(out, "\",\"x\":%llu", (unsigned long long)x);
    if (out->len + 2 > POSITION_BYTES_MAX) {
        return err_set(err, ERR_FATAL, "position_too_long",
                       "the position's source part is longer than %u bytes", POSITION_BYTES_MAX);
    }
    return 0;
}

void position_close(struct buf *out) {
    buf_putc(out, '}');
    CHECK(out->len <= POSITION_BYTES_MAX);
}

static int malformed(struct err *err, const char *why) {
    err_set(err, ERR_FATAL, "position_malformed", "the stored position cannot be read: %s", why);
    err_cure(err, "restore the target's position from a backup, or drop the job and the target's "
                  "tables and start again");
    return -1;
}

/* Where the value that begins at `at` ends. The text is known to be JSON. */
static const char *value_end(const char *at) {
    unsigned depth = 0;
    bool text = false;
    for (;; at++) {
        if (*at == '\0') {
            return at;
        }
        if (text) {
            if (*at == '\\' && at[1]) {
                at++;
            } else if (*at == '"') {
                text = false;
            }
        } else if (*at == '"') {
            text = true;
        } else if (*at == '{' || *at == '[') {
            depth++;
        } else if (*at == '}' || *at == ']') {
            if (depth == 0) {
                return at;
            }
            depth--;
        } else if (*at == ',' && depth == 0) {
            return at;
        }
    }
}

/* Advances *at over `"key":` and gives the span of its value; -1 if another key stands there. */
static int take_member(const char **at, const char *key, const char **value, size_t *len) {
    size_t n = strlen(key);
    const char *p = *at;
    if (*p == ',') {
        p++;
    }
    if (p[0] != '"' || strncmp(p + 1, key, n) != 0 || p[1 + n] != '"' || p[2 + n] != ':') {
        return -1;
    }
    *value = p + 3 + n;
    *at = value_end(*value);
    *len = (size_t)(*at - *value);
    return 0;
}

static int take_pos(json_t *root, const char *key, const struct source_ops *source,
                    struct logpos *out) {
    const char *text = json_string_value(json_object_get(root, key));
    return text && source_take_logpos(source, text, out) == 0 ? 0 : -1;
}

/* Checks the version before anything else: a newer program may have changed all the rest. */
static int check_version(json_t *root, struct err *err) {
    json_t *v = json_object_get(root, "v");
    if (!json_is_integer(v)) {
        return malformed(err, "it has no version");
    }
    if (json_integer_value(v) != 1) {
        err_set(err, ERR_FATAL, "position_version",
                "the stored position has version %lld, this program reads 1",
                (long long)json_integer_value(v));
        err_cure(err, "install the release of tailrace that wrote it, or a newer one");
        return -1;
    }
    return 0;
}

static int decode_members(const char *json, json_t *root, const struct source_ops *source,
                          struct stored_position *out, struct err *err) {
    const char *at = json + 1, *lineage, *value;
    size_t lineage_len, len;
    if (take_member(&at, "v", &value, &len) || take_member(&at, "source", &lineage, &lineage_len) ||
        take_member(&at, "applied", &value, &len) || take_member(&at, "resume", &value, &len) ||
        take_member(&at, "x", &value, &len)) {
        return malformed(err, "its members are not the expected ones in their order");
    }
    if (!json_is_object(json_object_get(root, "source"))) {
        return malformed(err, "\"source\" is no object");
    }
    json_t *x = json_object_get(root, "x");
    if (!json_is_integer(x) || json_integer_value(x) < 0) {
        return malformed(err, "\"x\" is no transaction number");
    }
    if (take_pos(root, "applied", source, &out->applied) ||
        take_pos(root, "resume", source, &out->resume)) {
        return malformed(err, "\"applied\" or \"resume\" is no position of this source");
    }
    if (logpos_cmp(out->resume, out->applied) > 0) {
        return malformed(err, "\"resume\" lies behind \"applied\"");
    }
    out->x = (uint64_t)json_integer_value(x);
    out->lineage = xstrndup(lineage, lineage_len);
    const char *end = json + strlen(json) - 1;
    if (*at == ',') {
        at++;
    }
    out->hybrid = xasprintf("{%.*s}", (int)(end - at), at);
    return 0;
}

int position_decode(const char *json, const struct source_ops *source, struct stored_position *out,
                    struct err *err) {
    *out = (struct stored_position){ 0 };
    size_t len = strlen(json);
    if (len > POSITION_BYTES_MAX) {
        return malformed(err, "it is longer than 8 KiB");
    }
    for (size_t i = 0; i < len; i++) {
        if ((unsigned char)json[i] < 0x20 || (unsigned char)json[i] > 0x7e) {
            return malformed(err, "it holds a byte that is not printable ASCII");
        }
    }
    json_error_t why;
    json_t *root = json_loadb(json, len, JSON_REJECT_DUPLICATES, &why);
    if (!root) {
        return malformed(err, why.text);
    }
    int rc = -1;
    if (!json_is_object(root)) {
        malformed(err, "it is no object");
    } else if (check_version(root, err) == 0) {
        rc = json[0] == '{' && json[len - 1] == '}'
                 ? decode_members(json, root, source, out, err)
                 : malformed(err, "it begins or ends with a blank");
    }
    json_decref(root);
    if (rc) {
        stored_position_release(out);
    }
    return rc;
}
