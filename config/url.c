/* The URL of a SOURCE or SINK: see url.h. One pass from left to right; nothing is decoded before
 * the split is done. */
#include "config/url.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cdc/base/opt.h"

/* What the functions here share. */
struct reader {
    const struct span *whole;
    const struct put_in *put_in;
    struct mistakes *mistakes;
};

/* The first of the bytes of `stops` in [at, end) outside ${..}, or end. */
static const char *find_stop(const char *at, const char *end, const char *stops) {
    bool inside = false;
    for (; at < end; at++) {
        if (!inside && end - at > 1 && at[0] == '$' && at[1] == '{') {
            inside = true;
        } else if (inside) {
            inside = *at != '}';
        } else if (*at != '\0' && strchr(stops, *at)) {
            return at;
        }
    }
    return end;
}

static const char *find_last(const char *at, const char *end, const char *stop) {
    const char *found = NULL;
    for (const char *p = find_stop(at, end, stop); p < end; p = find_stop(p + 1, end, stop)) {
        found = p;
    }
    return found;
}

static int hex_digit(char c) {
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* May a message quote what stands in ${..}? The name of a variable or file, and not half a URL
 * after a ${ that somebody's password holds. */
static bool is_plain_name(const char *name) {
    size_t n = 0;
    while (name[n] && !strchr("@$?&\"", name[n])) {
        n++;
    }
    return name[n] == '\0';
}

/* ${env:X} or ${file:/p}: [from, to) is what stands between the braces. -1 = a mistake was added.
 */
static int put_in_value(struct reader *r, const char *from, const char *to, struct buf *out) {
    struct place place = span_place(r->whole, from - 2);
    char name[512];
    if ((size_t)(to - from) >= sizeof name) {
        mistake_add(r->mistakes, place, "put_in", NULL, "a ${..} of more than 511 bytes");
        return -1;
    }
    memcpy(name, from, (size_t)(to - from));
    name[to - from] = '\0';
    bool env = strncmp(name, "env:", 4) == 0;
    if ((!env && strncmp(name, "file:/", 6) != 0) || !is_plain_name(name)) {
        mistake_add(r->mistakes, place, "put_in", "${env:NAME} or ${file:/path}",
                    "a ${..} that is neither ${env:NAME} nor ${file:/path}");
        return -1;
    }
    if (env) {
        const char *value = r->put_in->env(r->put_in->ctx, name + 4);
        if (!value) {
            mistake_add(r->mistakes, place, "env_missing", NULL,
                        "${%s}: the environment has no variable \"%s\"", name, name + 4);
            return -1;
        }
        if (buf_add(out, value, strlen(value))) {
            mistake_add(r->mistakes, place, "put_in", NULL, "${%s}: it is longer than 64 KiB",
                        name);
            return -1;
        }
        return 0;
    }
    struct buf bytes;
    char why[128] = "";
    buf_init(&bytes, PUT_IN_BYTES_MAX);
    int rc = r->put_in->file(r->put_in->ctx, name + 5, &bytes, why, sizeof why);
    if (rc == 0) { /* editors end a file with a line feed, which is no part of a password */
        bytes.len -= bytes.len > 0 && bytes.data[bytes.len - 1] == '\n';
        bytes.len -= bytes.len > 0 && bytes.data[bytes.len - 1] == '\r';
        if (bytes.len > 0 && memchr(bytes.data, '\0', bytes.len)) {
            snprintf(why, sizeof why, "it holds a NUL byte");
            rc = -1;
        } else if (bytes.len > 0 && buf_add(out, bytes.data, bytes.len)) {
            snprintf(why, sizeof why, "it is too long");
            rc = -1;
        }
    }
    if (rc) {
        mistake_add(r->mistakes, place, "file_missing", NULL, "${%s}: %s", name, why);
    }
    if (bytes.len > 0) {
        explicit_bzero(bytes.data, bytes.len);
    }
    buf_release(&bytes);
    return rc;
}

static int percent(struct reader *r, const char *at, const char *end, struct buf *out) {
    int high = end - at > 2 ? hex_digit(at[1]) : -1;
    int low = end - at > 2 ? hex_digit(at[2]) : -1;
    if (high < 0 || low < 0) {
        mistake_add(r->mistakes, span_place(r->whole, at), "percent", "write a percent sign as %25",
                    "a \"%%\" without two hex digits");
        return -1;
    }
    if (high == 0 && low == 0) {
        mistake_add(r->mistakes, span_place(r->whole, at), "percent", NULL, "%%00: a NUL byte");
        return -1;
    }
    buf_putc(out, (char)(high * 16 + low));
    return 0;
}

/* Decodes one part. On a mistake the part stays NULL. */
static void take_part(struct reader *r, const char *from, const char *to, struct url_part *out) {
    *out = (struct url_part){ .place = span_place(r->whole, from) };
    struct buf b;
    buf_init(&b, URL_BYTES_MAX + PUT_IN_BYTES_MAX);
    int failed = 0;
    for (const char *p = from; p < to && !failed;) {
        if (to - p > 1 && p[0] == '$' && p[1] == '{') {
            const char *close = memchr(p, '}', (size_t)(to - p));
            if (!close) {
                mistake_add(r->mistakes, span_place(r->whole, p), "put_in",
                            "${env:NAME} or ${file:/path}", "this ${ has no }");
                failed = -1;
                break;
            }
            out->put_in = true;
            failed = put_in_value(r, p + 2, close, &b);
            p = close + 1;
        } else if (*p == '%') {
            failed = percent(r, p, to, &b);
            p += 3;
        } else {
            buf_putc(&b, *p++);
        }
    }
    if (!failed) {
        out->text = xstrdup(buf_cstr(&b));
        out->written = out->put_in ? xstrndup(from, (size_t)(to - from)) : NULL;
    }
    if (b.len > 0) {
        explicit_bzero(b.data, b.len);
    }
    buf_release(&b);
}

static void take_authority(struct reader *r, const char *from, const char *to, struct url *out) {
    out->has_authority = true;
    const char *at = find_last(from, to, "@");
    if (at) {
        const char *colon = find_stop(from, at, ":");
        take_part(r, from, colon, &out->user);
        if (colon < at) {
            take_part(r, colon + 1, at, &out->secret);
        }
        from = at + 1;
    }
    if (from < to) {
        take_part(r, from, to, &out->hosts);
    }
}

bool url_key_is_secret(const char *key) { return strstr(key, "password") != NULL; }

/* Also one that is misspelt: what comes after it may belong to its value. */
static bool like_secret(const char *key) {
    static const char *const words[] = { "password", "sslpassword" };
    return url_key_is_secret(key) || opt_nearest(key, words, ARRAY_COUNT(words));
}

/* The option [from, end) is not key=value. What it is may be quoted only if no secret goes before
 * it. */
static void not_an_option(struct reader *r, const char *from, const char *end, bool named,
                          bool doubt, const char *secret) {
    struct place place = span_place(r->whole, from);
    const char *form = "options are ?key=value&key=value";
    int len = (int)(end - from < 80 ? end - from : 80);
    if (secret) {
        mistake_add(r->mistakes, place, "option_form",
                    "write & in a value as %26, or put it in: password=${env:PASSWORD}",
                    "after the option \"%s\" comes \"&\", and then no key=value", secret);
    } else if (!named) {
        mistake_add(r->mistakes, place, "option_form", form, "an option without a name");
    } else if (doubt || memmem(from, (size_t)(end - from), "pass", 4)) {
        mistake_add(r->mistakes, place, "option_form", form, "an option without a value");
    } else {
        mistake_add(r->mistakes, place, "option_form", form, "the option \"%.*s\" has no value",
                    len, from);
    }
}

static void take_keys(struct reader *r, const char *from, const char *to, bool doubt,
                      struct url *out) {
    const char *secret = NULL; /* the last option that takes one */
    out->keys = xcalloc(URL_KEYS_MAX, sizeof *out->keys);
    while (from <= to) {
        const char *end = find_stop(from, to, "&");
        const char *equals = find_stop(from, end, "=");
        struct place place = span_place(r->whole, from);
        if (equals == end || equals == from) {
            not_an_option(r, from, end, equals > from, doubt, secret);
            doubt = true;
        } else if (out->key_count == URL_KEYS_MAX) {
            mistake_add(r->mistakes, place, "option_form", NULL, "more than %u options",
                        URL_KEYS_MAX);
            return;
        } else {
            struct url_key *key = &out->keys[out->key_count++];
            key->key = xstrndup(from, (size_t)(equals - from));
            key->place = place;
            key->doubt = doubt || secret;
            bool secret_value = like_secret(key->key) || find_stop(equals + 1, end, "=") < end;
            secret = secret_value ? key->key : secret;
            take_part(r, equals + 1, end, &key->value);
        }
        from = end + 1;
    }
}

/* Is what stands behind the host's colon a port? A name of digits, 1 to 65535, or put in. */
static bool is_port(const char *from, const char *to) {
    unsigned port = 0;
    for (const char *p = from; p < to; p++) {
        if (*p == '$') {
            return true;
        }
        if (*p < '0' || *p > '9' || port > 6553) {
            return false;
        }
        port = port * 10 + (unsigned)(*p - '0');
    }
    return from == to || (port > 0 && port < 65536);
}

/* A password with a bare / ? or @ ends the authority early: what is left looks like a host with a
 * port that is none, or leaves an @ behind, and would be printed. [from, stop) is the authority,
 * the URL ends at `end`. */
static bool cut_in_password(const char *from, const char *stop, const char *end) {
    const char *query = find_stop(stop, end, "?");
    const char *at = find_last(from, stop, "@");
    const char *first = find_stop(from, query, ":");
    if (find_stop(first, query, "@") < query && find_last(stop, query, "@")) {
        return true; /* a path with an @, and a colon before it */
    }
    for (const char *p = at ? at + 1 : from; p < stop; p++) {
        const char *host = p;
        p = find_stop(p, stop, ",");
        const char *close = *host == '[' ? memchr(host, ']', (size_t)(p - host)) : NULL;
        const char *colon = find_stop(close ? close : host, p, ":");
        if (colon < p && !is_port(colon + 1, p)) {
            return true;
        }
    }
    /* user:12?34@host: no path before the options, and an @ in them */
    return stop == query && first < stop && find_stop(stop, end, "@") < end;
}

void url_parse(const struct span *text, const struct put_in *put_in, struct mistakes *mistakes,
               struct url *out) {
    *out = (struct url){ .place = text->place };
    struct reader r = { .whole = text, .put_in = put_in, .mistakes = mistakes };
    const char *at = text->at;
    const char *end = text->at + text->len;
    if (text->len > URL_BYTES_MAX) {
        mistake_add(mistakes, text->place, "too_long", NULL, "a URL of more than 8 KiB");
        return;
    }
    size_t n = 0;
    while (n < text->len && ((at[n] >= 'a' && at[n] <= 'z') ||
                             (n > 0 && ((at[n] >= '0' && at[n] <= '9') || strchr("+-.", at[n]))))) {
        n++;
    }
    if (n == 0 || n == text->len || at[n] != ':') {
        mistake_add(mistakes, text->place, "scheme",
                    "e.g. postgres://user@host/db or jsonl:///var/lib/changes",
                    "no scheme (letters and \":\") at the beginning of the URL");
        return;
    }
    out->scheme = xstrndup(at, n);
    at += n + 1;
    out->doubt =
        !(end - at >= 2 && at[0] == '/' && at[1] == '/') && memchr(at, '@', (size_t)(end - at));
    if (end - at >= 2 && at[0] == '/' && at[1] == '/') {
        const char *stop = find_stop(at + 2, end, "/?");
        if (cut_in_password(at + 2, stop, end)) {
            mistake_add(mistakes, span_place(text, at + 2), "url_form",
                        "write / ? @ and % in a password as %2F %3F %40 %25, or put it in: "
                        "${env:PASSWORD}",
                        "what stands before the path is not [user[:password]@]host[:port]");
            return;
        }
        take_authority(&r, at + 2, stop, out);
        at = stop;
    }
    if (at < end && *at == '/') {
        const char *stop = find_stop(at, end, "?");
        const char *colon = find_stop(at, stop, ":");
        if (!out->has_authority && find_stop(colon, stop, "@") < stop) {
            mistake_add(mistakes, span_place(text, at), "url_form",
                        "e.g. postgres://user@host/db; in a path write @ as %40",
                        "a path with a user and an @: two slashes go before a host");
            return;
        }
        if (memmem(at, (size_t)(stop - at), "password=", 9)) {
            mistake_add(mistakes, span_place(text, at), "url_form",
                        "options are ?key=value&key=value", "options begin with \"?\"");
            return;
        }
        take_part(&r, at, stop, &out->path);
        at = stop;
    }
    if (at < end && *at != '?') {
        mistake_add(mistakes, span_place(text, at), "url_form", NULL,
                    "after \"%s:\" comes //host, /path or ?key=value",
                    out->doubt ? "scheme" : out->scheme);
        return;
    }
    if (at < end) { /* a bare @ where none closed the authority: half a password? */
        bool doubt = !find_last(text->at, at, "@") && find_stop(at, end, "@") < end;
        take_keys(&r, at + 1, end, doubt, out);
    }
}

static void part_release(struct url_part *part) {
    if (part->text) {
        explicit_bzero(part->text, strlen(part->text));
        free(part->text);
    }
    if (part->written) {
        explicit_bzero(part->written, strlen(part->written));
        free(part->written);
    }
    *part = (struct url_part){ .text = NULL };
}

void url_release(struct url *url) {
    free(url->scheme);
    part_release(&url->user);
    part_release(&url->secret);
    part_release(&url->hosts);
    part_release(&url->path);
    for (uint32_t i = 0; i < url->key_count; i++) {
        free(url->keys[i].key);
        part_release(&url->keys[i].value);
    }
    free(url->keys);
    *url = (struct url){ .scheme = NULL };
}

void url_put_without_secret(struct buf *out, const char *text, size_t len) {
    const char *end = text + len;
    const char *slashes = memmem(text, len, "//", 2);
    const char *from = slashes ? slashes + 2 : text;
    const char *at = find_last(from, end, "@"); /* of the whole text: a password may hold / and ? */
    const char *colon = find_stop(from, at ? at : find_stop(from, end, "/?"), ":");
    if (at ? colon < at
           : colon < end && *colon == ':' && !is_port(colon + 1, find_stop(colon, end, "/?,"))) {
        buf_put(out, text, (size_t)(colon + 1 - text));
        buf_puts(out, "${env:PASSWORD}");
        text = at ? at : find_stop(colon, end, "/?");
    }
    const char *key = memmem(text, (size_t)(end - text), "password=", 9);
    if (key) { /* to the end: what follows an & may be a part of it */
        buf_put(out, text, (size_t)(key + 9 - text));
        buf_puts(out, "${env:PASSWORD}");
        if (find_stop(key, end, "&") < end) {
            buf_puts(out, "&...");
        }
        return;
    }
    buf_put(out, text, (size_t)(end - text));
}
