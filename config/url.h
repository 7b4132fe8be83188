/* A SOURCE or SINK taken apart, in this order: split, then percent-decode, then ${env:X} and
 * ${file:/p} are put in (never parsed again: what they give may hold any byte but NUL, and cannot
 * become another part).
 *
 *   scheme ":" [ "//" [user[:secret]@] hosts ] [ "/" path ] [ "?" key=value { "&" key=value } ]
 *
 * ${..} counts as one character while splitting. Pure but for put_in. Thread: one owner. */
#pragma once
#include "config/job_text.h"
#include "config/put_in.h"

#define URL_KEYS_MAX 64u
#define URL_BYTES_MAX (8u << 10) /* of the text */

struct url_part {
    char *text;    /* owned; NULL = not given */
    bool put_in;   /* ${..} gave some of it: never printed */
    char *written; /* owned; as the text has it, for what is said instead; NULL without ${..} */
    struct place place;
};
struct url_key {
    char *key;  /* owned; as written */
    bool doubt; /* it may be the rest of a password with a bare "&": quoted only if it is known */
    struct url_part value;
    struct place place;
};
struct url {
    char *scheme; /* owned; NULL when it has none */
    bool doubt;   /* the scheme may be a part of a password: quoted only if it is known */
    struct place place;
    bool has_authority;
    struct url_part user, secret, hosts, path; /* path with its first slash */
    struct url_key *keys;
    uint32_t key_count;
};
/* Adds mistakes for what is wrong; out is filled as far as it could be read. */
void url_parse(const struct span *text, const struct put_in *put_in, struct mistakes *mistakes,
               struct url *out);
/* Secrets are overwritten first. */
void url_release(struct url *url);
/* password, sslpassword: the value is a secret, even if it is typed. */
bool url_key_is_secret(const char *key);
/* The text of a URL, or of what was meant to be one, with its secret replaced by ${env:PASSWORD},
 * for messages that quote what the user wrote. Appends. */
void url_put_without_secret(struct buf *out, const char *text, size_t len);
