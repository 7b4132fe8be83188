/* Dates, times, identifiers and bits as text: ISO 8601, astronomical years, digits written by hand
 * since every row of a text sink passes here. Decimals are in value_decimal.c, floats in
 * value_float.c. Pure. Thread: any. */
#include "cdc/value.h"

#define US_PER_SECOND INT64_C(1000000)
#define US_PER_DAY (86400 * US_PER_SECOND)

enum {
    DAYS_0000_TO_2000 = 730425, /* from 0000-03-01 to 2000-01-01 */
    DAYS_PER_ERA = 146097,      /* 400 years */
    TEXT_MAX = 64,
};

static int64_t floor_divide(int64_t a, int64_t b) { return a / b - (a % b < 0); }

/* Years that begin in March have their leap day at the end. */
void value_civil_from_days(int32_t days_since_2000, int32_t *year, unsigned *month, unsigned *day) {
    int64_t days = (int64_t)days_since_2000 + DAYS_0000_TO_2000;
    int64_t era = floor_divide(days, DAYS_PER_ERA);
    uint32_t of_era = (uint32_t)(days - era * DAYS_PER_ERA);
    uint32_t year_of_era = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    uint32_t of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    uint32_t from_march = (5 * of_year + 2) / 153;
    *day = of_year - (153 * from_march + 2) / 5 + 1;
    *month = from_march < 10 ? from_march + 3 : from_march - 9;
    *year = (int32_t)(era * 400 + year_of_era + (*month <= 2));
}

int64_t value_days_from_civil(int64_t year, unsigned month, unsigned day) {
    CHECK(month >= 1 && month <= 12 && year > -INT64_C(10000000000) && year < INT64_C(10000000000));
    int64_t from_march = year - (month <= 2);
    int64_t era = floor_divide(from_march, 400);
    int64_t year_of_era = from_march - era * 400;
    int64_t of_year = (153 * ((int64_t)month + (month > 2 ? -3 : 9)) + 2) / 5 + (int64_t)day - 1;
    int64_t of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + of_year;
    return era * DAYS_PER_ERA + of_era - DAYS_0000_TO_2000;
}

static inline char *write_two(char *to, unsigned v) {
    to[0] = (char)('0' + v / 10);
    to[1] = (char)('0' + v % 10);
    return to + 2;
}

/* At least `width` digits. */
static char *write_number(char *to, uint64_t v, int width) {
    char text[20];
    int at = (int)sizeof text;
    do {
        text[--at] = (char)('0' + v % 10);
        v /= 10;
    } while (v > 0);
    while ((int)sizeof text - at < width) {
        text[--at] = '0';
    }
    size_t len = sizeof text - (size_t)at;
    memcpy(to, text + at, len);
    return to + len;
}

static char *write_date(char *to, int32_t days) {
    int32_t year;
    unsigned month;
    unsigned day;
    value_civil_from_days(days, &year, &month, &day);
    if (LIKELY(year >= 0 && year <= 9999)) {
        to = write_two(to, (unsigned)year / 100);
        to = write_two(to, (unsigned)year % 100);
    } else {
        *to++ = year < 0 ? '-' : '+';
        to = write_number(to, (uint64_t)(year < 0 ? -(int64_t)year : year), 4);
    }
    *to++ = '-';
    to = write_two(to, month);
    *to++ = '-';
    return write_two(to, day);
}

/* Not negative; hours have two digits or as many as they need. */
static char *write_time(char *to, uint64_t us) {
    uint64_t seconds = us / (uint64_t)US_PER_SECOND;
    unsigned fraction = (unsigned)(us % (uint64_t)US_PER_SECOND);
    uint64_t hours = seconds / 3600;
    to = LIKELY(hours < 100) ? write_two(to, (unsigned)hours) : write_number(to, hours, 2);
    *to++ = ':';
    to = write_two(to, (unsigned)(seconds / 60 % 60));
    *to++ = ':';
    to = write_two(to, (unsigned)(seconds % 60));
    if (fraction > 0) {
        *to++ = '.';
        to = write_two(to, fraction / 10000);
        to = write_two(to, fraction / 100 % 100);
        to = write_two(to, fraction % 100);
        while (to[-1] == '0') {
            to--;
        }
    }
    return to;
}

static char *write_signed_time(char *to, int64_t us) {
    if (us < 0) {
        *to++ = '-';
    }
    return write_time(to, us < 0 ? 0 - (uint64_t)us : (uint64_t)us);
}

void value_put_date(struct buf *out, int32_t days) {
    char text[TEXT_MAX];
    if (days == INT32_MIN || days == INT32_MAX) {
        buf_puts(out, days == INT32_MAX ? "infinity" : "-infinity");
        return;
    }
    buf_put(out, text, (size_t)(write_date(text, days) - text));
}

void value_put_time(struct buf *out, int64_t us) {
    char text[TEXT_MAX];
    buf_put(out, text, (size_t)(write_signed_time(text, us) - text));
}

void value_put_timestamp(struct buf *out, int64_t us, bool utc) {
    char text[TEXT_MAX];
    if (us == INT64_MIN || us == INT64_MAX) {
        buf_puts(out, us == INT64_MAX ? "infinity" : "-infinity");
        return;
    }
    int64_t days = floor_divide(us, US_PER_DAY);
    char *to = write_date(text, (int32_t)days);
    *to++ = 'T';
    int64_t of_day = us % US_PER_DAY;
    to = write_time(to, (uint64_t)(of_day < 0 ? of_day + US_PER_DAY : of_day));
    if (utc) {
        *to++ = 'Z';
    }
    buf_put(out, text, (size_t)(to - text));
}

void value_put_timetz(struct buf *out, int64_t us, int32_t seconds_east) {
    char text[TEXT_MAX];
    char *to = write_signed_time(text, us);
    uint32_t offset = seconds_east < 0 ? 0 - (uint32_t)seconds_east : (uint32_t)seconds_east;
    *to++ = seconds_east < 0 ? '-' : '+';
    to = write_number(to, offset / 3600, 2);
    *to++ = ':';
    to = write_two(to, offset / 60 % 60);
    if (offset % 60 > 0) {
        *to++ = ':';
        to = write_two(to, offset % 60);
    }
    buf_put(out, text, (size_t)(to - text));
}

void value_put_uuid(struct buf *out, const uint8_t *bytes16) {
    static const char hex[] = "0123456789abcdef";
    char text[36];
    char *to = text;
    for (int i = 0; i < 16; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10) {
            *to++ = '-';
        }
        *to++ = hex[bytes16[i] >> 4];
        *to++ = hex[bytes16[i] & 15];
    }
    buf_put(out, text, sizeof text);
}

void value_put_bits(struct buf *out, const uint8_t *cell, size_t len) {
    uint32_t bits;
    CHECK(len >= sizeof bits);
    memcpy(&bits, cell, sizeof bits);
    CHECK(len - sizeof bits == ((size_t)bits + 7) / 8);
    if (bits == 0) {
        return; /* an empty buffer may have no block to point into */
    }
    int failed = buf_reserve(out, bits);
    CHECK(!failed);
    char *to = out->data + out->len;
    const uint8_t *bytes = cell + sizeof bits;
    for (uint32_t i = 0; i < bits; i++) {
        to[i] = (char)('0' + (bytes[i >> 3] >> (7 - (i & 7)) & 1));
    }
    out->len += bits;
}
