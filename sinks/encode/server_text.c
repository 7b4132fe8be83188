/* PostgreSQL's text forms, from cells. See server_text.h. Only for digests and people: what goes
 * into changelogs is json_cell.h's. The rules are those of the server's output functions:
 * timestamps and intervals as its EncodeDateTime and EncodeInterval, floats as its shortest output
 * (scientific below 1e-4 and from 1e15, float4 from 1e6), arrays as array_out. */
#include "sinks/encode/server_text.h"

#include <math.h>
#include <stdlib.h>
#include <strings.h>

#include "cdc/base/buf.h"
#include "cdc/value.h"
#include "sinks/encode/array_image.h"

#define US_A_SECOND INT64_C(1000000)
#define US_A_DAY (INT64_C(86400) * US_A_SECOND)

/* Digits and the decimal point's place of a shortest form such as 1.25e-07, 100 or 0.001. value =
 * 0.d1d2d3.. * 10^point */
static void take_digits(const char *s, size_t len, char *digits, size_t *count, int *point) {
    int exponent = 0;
    bool fraction = false;
    *count = 0;
    *point = 0;
    for (size_t i = 0; i < len; i++) {
        if (s[i] == 'e' || s[i] == 'E') {
            exponent = atoi(s + i + 1); /* the buffer behind s ends with a NUL */
            break;
        }
        if (s[i] == '.') {
            fraction = true;
            continue;
        }
        if (*count == 0 && s[i] == '0') {
            *point -= fraction ? 1 : 0;
            continue;
        }
        *point += fraction ? 0 : 1;
        digits[(*count)++] = s[i];
    }
    while (*count > 0 && digits[*count - 1] == '0') {
        (*count)--;
    }
    *point += exponent;
}

void server_text_put_float(struct buf *out, double v, bool single) {
    struct buf text;
    buf_init(&text, SIZE_MAX);
    double magnitude = fabs(v);
    if (single) {
        value_put_float32(&text, (float)(isfinite(v) ? magnitude : v));
    } else {
        value_put_float64(&text, isfinite(v) ? magnitude : v);
    }
    const char *s = buf_cstr(&text);
    char digits[400];
    size_t count = 0;
    int point = 0;
    CHECK(text.len < sizeof digits);
    if (!isfinite(v) || v == 0) {
        buf_puts(out, v == 0 ? (signbit(v) ? "-0" : "0") : s);
        buf_release(&text);
        return;
    }
    take_digits(s, text.len, digits, &count, &point);
    buf_puts(out, v < 0 ? "-" : "");
    int exponent = point - 1;
    if (exponent < -4 || exponent >= (single ? 6 : 15)) {
        buf_putc(out, digits[0]);
        if (count > 1) {
            buf_putc(out, '.');
            buf_put(out, digits + 1, count - 1);
        }
        buf_putf(out, "e%c%02d", exponent < 0 ? '-' : '+', abs(exponent));
    } else if (point <= 0) {
        buf_puts(out, "0.");
        for (int i = point; i < 0; i++) {
            buf_putc(out, '0');
        }
        buf_put(out, digits, count);
    } else {
        for (int i = 0; i < point || (size_t)i < count; i++) {
            if (i == point) {
                buf_putc(out, '.');
            }
            buf_putc(out, (size_t)i < count ? digits[i] : '0');
        }
    }
    buf_release(&text);
}

/* YYYY-MM-DD without the era; true: years before Christ. */
static bool put_civil(struct buf *out, int64_t days) {
    int32_t year;
    unsigned month;
    unsigned day;
    CHECK(days >= INT32_MIN && days <= INT32_MAX);
    value_civil_from_days((int32_t)days, &year, &month, &day);
    buf_putf(out, "%04d-%02u-%02u", year > 0 ? year : 1 - year, month, day);
    return year <= 0;
}

/* HH:MM:SS[.ffffff] of a non-negative number of microseconds. */
static void put_clock(struct buf *out, uint64_t us) {
    uint64_t seconds = us / US_A_SECOND;
    unsigned fraction = (unsigned)(us % US_A_SECOND);
    buf_putf(out, "%02llu:%02u:%02u", (unsigned long long)(seconds / 3600),
             (unsigned)(seconds / 60 % 60), (unsigned)(seconds % 60));
    if (fraction) {
        buf_putf(out, ".%06u", fraction);
        while (out->data[out->len - 1] == '0') {
            out->len--;
        }
    }
}

static void put_date(struct buf *out, int32_t days) {
    if (days == INT32_MIN || days == INT32_MAX) {
        buf_puts(out, days < 0 ? "-infinity" : "infinity");
        return;
    }
    bool before_christ = put_civil(out, days);
    buf_puts(out, before_christ ? " BC" : "");
}

static void put_timestamp(struct buf *out, int64_t us, bool utc) {
    if (us == INT64_MIN || us == INT64_MAX) {
        buf_puts(out, us < 0 ? "-infinity" : "infinity");
        return;
    }
    int64_t days = us / US_A_DAY - (us % US_A_DAY < 0 ? 1 : 0);
    bool before_christ = put_civil(out, days);
    buf_putc(out, ' ');
    put_clock(out, (uint64_t)(us - days * US_A_DAY));
    buf_puts(out, utc ? "+00" : "");
    buf_puts(out, before_christ ? " BC" : "");
}

static void put_timetz(struct buf *out, int64_t us, int32_t east) {
    put_clock(out, (uint64_t)us);
    unsigned s = (unsigned)(east < 0 ? -(int64_t)east : east);
    buf_putf(out, "%c%02u", east < 0 ? '-' : '+', s / 3600);
    if (s % 3600) {
        buf_putf(out, ":%02u", s / 60 % 60);
    }
    if (s % 60) {
        buf_putf(out, ":%02u", s % 60);
    }
}

static void put_interval_part(struct buf *out, int32_t value, const char *unit, bool *zero,
                              bool *negative) {
    if (value != 0) {
        buf_putf(out, "%s%s%d %s%s", *zero ? "" : " ", *negative && value > 0 ? "+" : "", value,
                 unit, value != 1 ? "s" : "");
        *negative = value < 0;
        *zero = false;
    }
}

static void put_interval(struct buf *out, int64_t us, int32_t days, int32_t months) {
    bool zero = true;
    bool negative = false;
    put_interval_part(out, months / 12, "year", &zero, &negative);
    put_interval_part(out, months % 12, "mon", &zero, &negative);
    put_interval_part(out, days, "day", &zero, &negative);
    if (zero || us != 0) {
        buf_puts(out, zero ? "" : " ");
        buf_puts(out, us < 0 ? "-" : negative ? "+" : "");
        put_clock(out, us < 0 ? 0 - (uint64_t)us : (uint64_t)us);
    }
}

static void put_hex(struct buf *out, const uint8_t *p, size_t len) {
    static const char hex[] = "0123456789abcdef";
    int failed = buf_reserve(out, 2 * len);
    CHECK(!failed);
    for (size_t i = 0; i < len; i++) {
        out->data[out->len++] = hex[p[i] >> 4];
        out->data[out->len++] = hex[p[i] & 15];
    }
}

static bool must_quote(const char *s, size_t len) {
    if (len == 0 || (len == 4 && strncasecmp(s, "null", 4) == 0)) {
        return true;
    }
    for (size_t i = 0; i < len; i++) {
        if (memchr("\"\\{}, \t\n\r\v\f", s[i], 11)) {
            return true;
        }
    }
    return false;
}

static void put_element(struct buf *out, const char *s, size_t len) {
    if (!must_quote(s, len)) {
        buf_put(out, s, len);
        return;
    }
    buf_putc(out, '"');
    for (size_t i = 0; i < len; i++) {
        if (s[i] == '"' || s[i] == '\\') {
            buf_putc(out, '\\');
        }
        buf_putc(out, s[i]);
    }
    buf_putc(out, '"');
}

static int put_array(struct buf *out, const struct type *type, const uint8_t *cell, size_t len,
                     struct err *err) {
    struct array_image a;
    if (array_image_open(&a, cell, len, err)) {
        return -1;
    }
    if (!array_image_from_one(&a)) {
        for (uint32_t d = 0; d < a.ndim; d++) {
            buf_putf(out, "[%d:%lld]", a.lower[d], (long long)a.lower[d] + a.length[d] - 1);
        }
        buf_putc(out, '=');
    }
    struct type element = { .kind = type->element };
    struct buf text;
    buf_init(&text, SIZE_MAX);
    struct array_step step;
    int failed;
    while ((failed = array_image_next(&a, &step, err)) == 0) {
        for (uint32_t i = 0; i < step.closes; i++) {
            buf_putc(out, '}');
        }
        if (step.end) {
            break;
        }
        buf_puts(out, step.comma ? "," : "");
        for (uint32_t i = 0; i < step.opens; i++) {
            buf_putc(out, '{');
        }
        buf_clear(&text);
        if (step.null) {
            buf_puts(out, "NULL");
        } else if (step.element && element.kind == TYPE_BOOL) {
            buf_putc(out, *step.element ? 't' : 'f');
        } else if (step.element) {
            if ((failed = server_text_put(&text, &element, step.element, step.len, err))) {
                break; /* elements are never arrays: one level of calls */
            }
            put_element(out, text.data, text.len);
        }
    }
    buf_release(&text);
    return failed;
}

static int64_t load(const uint8_t *p, size_t width) {
    int64_t v8;
    int32_t v4;
    int16_t v2;
    switch (width) {
    case 8:
        memcpy(&v8, p, 8);
        return v8;
    case 4:
        memcpy(&v4, p, 4);
        return v4;
    case 2:
        memcpy(&v2, p, 2);
        return v2;
    default:
        return (int8_t)*p;
    }
}

/* Table-shaped: one line a kind. */
int server_text_put(struct buf *out, const struct type *type, const uint8_t *cell, size_t len,
                    struct err *err) {
    switch (type->kind) {
    case TYPE_BOOL:
        buf_puts(out, *cell ? "true" : "false");
        return 0;
    case TYPE_INT8:
    case TYPE_INT16:
    case TYPE_INT32:
    case TYPE_INT64:
    case TYPE_YEAR:
        buf_put_i64(out, load(cell, len));
        return 0;
    case TYPE_UINT8:
        buf_put_u64(out, *cell);
        return 0;
    case TYPE_UINT16:
        buf_put_u64(out, (uint16_t)load(cell, len));
        return 0;
    case TYPE_UINT32:
        buf_put_u64(out, (uint32_t)load(cell, len));
        return 0;
    case TYPE_UINT64:
        buf_put_u64(out, (uint64_t)load(cell, len));
        return 0;
    case TYPE_FLOAT32: {
        float v;
        memcpy(&v, cell, sizeof v);
        server_text_put_float(out, (double)v, true);
        return 0;
    }
    case TYPE_FLOAT64: {
        double v;
        memcpy(&v, cell, sizeof v);
        server_text_put_float(out, v, false);
        return 0;
    }
    case TYPE_DECIMAL:
        value_put_decimal(out, type, cell);
        return 0;
    case TYPE_BYTES:
        buf_puts(out, "\\x");
        put_hex(out, cell, len);
        return 0;
    case TYPE_GEOMETRY:
        put_hex(out, cell, len);
        return 0;
    case TYPE_DATE:
        put_date(out, (int32_t)load(cell, 4));
        return 0;
    case TYPE_TIME:
        put_clock(out, (uint64_t)load(cell, 8));
        return 0;
    case TYPE_TIMETZ:
        put_timetz(out, load(cell, 8), (int32_t)load(cell + 8, 4));
        return 0;
    case TYPE_TIMESTAMP:
        put_timestamp(out, load(cell, 8), false);
        return 0;
    case TYPE_TIMESTAMPTZ:
        put_timestamp(out, load(cell, 8), true);
        return 0;
    case TYPE_INTERVAL:
        put_interval(out, load(cell, 8), (int32_t)load(cell + 8, 4), (int32_t)load(cell + 12, 4));
        return 0;
    case TYPE_UUID:
        value_put_uuid(out, cell);
        return 0;
    case TYPE_BIT:
        value_put_bits(out, cell, len);
        return 0;
    case TYPE_ARRAY:
        return put_array(out, type, cell, len, err);
    default:
        buf_put(out, cell, len);
        return 0;
    }
}
