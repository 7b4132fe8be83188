/* Dates, times and intervals from the text that PostgreSQL writes with DateStyle ISO and
 * IntervalStyle postgres, to the integers of cdc/type.h. Every part is range-checked, every sum is
 * checked for overflow. Pure; thread: any. */
#include "cdc/value.h"
#include "connectors/postgres/pgsrc_plan.h"

#define SECOND_US INT64_C(1000000)
#define HOUR_US (INT64_C(3600) * SECOND_US)
#define DAY_US (INT64_C(24) * HOUR_US)

enum { YEAR_DIGITS_MAX = 7, ZONE_HOURS_MAX = 15, HOUR_DIGITS_MAX = 10 };

static bool at_digit(const struct view *v) {
    return v->at < v->end && *v->at >= '0' && *v->at <= '9';
}

static bool skip(struct view *v, const char *text) {
    size_t len = strlen(text);
    if (view_left(v) < len || memcmp(v->at, text, len) != 0) {
        return false;
    }
    v->at += len;
    return true;
}

static bool is_all(const struct view *v, const char *text) {
    return view_left(v) == strlen(text) && memcmp(v->at, text, strlen(text)) == 0;
}

/* Between min and max digits. */
static int take_number(struct view *v, int min, int max, int64_t *out) {
    int count = 0;
    *out = 0;
    while (count < max && at_digit(v)) {
        *out = *out * 10 + (*v->at++ - '0');
        count++;
    }
    return count >= min ? 0 : -1;
}

/* year-month-day, without the era, which ends the whole value. */
static int take_ymd(struct view *v, int64_t *year, int64_t *month, int64_t *day) {
    if (take_number(v, 4, YEAR_DIGITS_MAX, year) != 0 || !skip(v, "-") ||
        take_number(v, 2, 2, month) != 0 || !skip(v, "-")) {
        return -1;
    }
    return take_number(v, 2, 2, day);
}

/* Takes " BC" if it is there; the days since 2000-01-01. */
static int end_date(struct view *v, int64_t year, int64_t month, int64_t day, int64_t *days) {
    static const uint8_t month_days[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
    if (year == 0 || month < 1 || month > 12) {
        return -1;
    }
    if (skip(v, " BC")) {
        year = 1 - year;
    }
    bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    int64_t last = month_days[month - 1] + (month == 2 && leap);
    if (day < 1 || day > last || view_left(v) != 0) {
        return -1;
    }
    *days = value_days_from_civil(year, (unsigned)month, (unsigned)day);
    return 0;
}

/* A fraction of one to six digits after the point, if there is one. */
static int take_fraction(struct view *v, int64_t *us) {
    *us = 0;
    if (!skip(v, ".")) {
        return 0;
    }
    const uint8_t *from = v->at;
    if (take_number(v, 1, 6, us) != 0) {
        return -1;
    }
    for (size_t n = (size_t)(v->at - from); n < 6; n++) {
        *us *= 10;
    }
    return 0;
}

/* hours:minutes:seconds[.fraction] with hours of at most so many digits. */
static int take_clock(struct view *v, int hour_digits_max, uint64_t *us) {
    int64_t hours;
    int64_t minutes;
    int64_t seconds;
    int64_t fraction;
    if (take_number(v, 2, hour_digits_max, &hours) != 0 || !skip(v, ":") ||
        take_number(v, 2, 2, &minutes) != 0 || !skip(v, ":") ||
        take_number(v, 2, 2, &seconds) != 0 || take_fraction(v, &fraction) != 0 || minutes > 59 ||
        seconds > 60) {
        return -1;
    }
    uint64_t rest = (uint64_t)(minutes * 60 + seconds) * SECOND_US + (uint64_t)fraction;
    if (__builtin_mul_overflow((uint64_t)hours, (uint64_t)HOUR_US, us) ||
        __builtin_add_overflow(*us, rest, us)) {
        return -1;
    }
    return 0;
}

static int take_day_clock(struct view *v, int64_t *us) {
    uint64_t t;
    if (take_clock(v, 2, &t) != 0 || t > (uint64_t)DAY_US) {
        return -1;
    }
    *us = (int64_t)t;
    return 0;
}

/* +hh[:mm[:ss]] */
static int take_zone(struct view *v, int32_t *seconds_east) {
    bool west = skip(v, "-");
    int64_t hours;
    int64_t minutes = 0;
    int64_t seconds = 0;
    if ((!west && !skip(v, "+")) || take_number(v, 2, 2, &hours) != 0) {
        return -1;
    }
    if (skip(v, ":")) {
        if (take_number(v, 2, 2, &minutes) != 0 ||
            (skip(v, ":") && take_number(v, 2, 2, &seconds) != 0)) {
            return -1;
        }
    }
    if (hours > ZONE_HOURS_MAX || minutes > 59 || seconds > 59) {
        return -1;
    }
    int32_t east = (int32_t)(hours * 3600 + minutes * 60 + seconds);
    *seconds_east = west ? -east : east;
    return 0;
}

int pgsrc_text_date(const uint8_t *p, size_t len, int32_t *days) {
    struct view v = view_of(p, len);
    int64_t year;
    int64_t month;
    int64_t day;
    int64_t wide;
    if (is_all(&v, "infinity") || is_all(&v, "-infinity")) {
        *days = p[0] == '-' ? INT32_MIN : INT32_MAX;
        return 0;
    }
    if (take_ymd(&v, &year, &month, &day) != 0 || end_date(&v, year, month, day, &wide) != 0) {
        return -1;
    }
    if (wide <= INT32_MIN || wide >= INT32_MAX) {
        return -1;
    }
    *days = (int32_t)wide;
    return 0;
}

int pgsrc_text_time(const uint8_t *p, size_t len, int64_t *us) {
    struct view v = view_of(p, len);
    return take_day_clock(&v, us) == 0 && view_left(&v) == 0 ? 0 : -1;
}

int pgsrc_text_timetz(const uint8_t *p, size_t len, int64_t *us, int32_t *seconds_east) {
    struct view v = view_of(p, len);
    return take_day_clock(&v, us) == 0 && take_zone(&v, seconds_east) == 0 && view_left(&v) == 0
               ? 0
               : -1;
}

int pgsrc_text_timestamp(const uint8_t *p, size_t len, bool zoned, int64_t *us) {
    struct view v = view_of(p, len);
    int64_t year;
    int64_t month;
    int64_t day;
    int64_t days;
    int64_t clock;
    int32_t east = 0;
    if (is_all(&v, "infinity") || is_all(&v, "-infinity")) {
        *us = p[0] == '-' ? INT64_MIN : INT64_MAX;
        return 0;
    }
    if (take_ymd(&v, &year, &month, &day) != 0 || !skip(&v, " ") ||
        take_day_clock(&v, &clock) != 0 || (zoned && take_zone(&v, &east) != 0) ||
        end_date(&v, year, month, day, &days) != 0) {
        return -1;
    }
    int64_t t;
    if (__builtin_mul_overflow(days, DAY_US, &t) || __builtin_add_overflow(t, clock, &t) ||
        __builtin_sub_overflow(t, east * SECOND_US, &t) || t == INT64_MIN || t == INT64_MAX) {
        return -1;
    }
    *us = t;
    return 0;
}

/* The unit after a count in an interval: its size in months or days is added. */
static int add_unit(struct view *v, int64_t count, int64_t *days, int64_t *months) {
    static const struct {
        const char *name;
        int64_t in_months;
    } units[] = { { "year", 12 }, { "mon", 1 }, { "day", 0 } };
    for (size_t i = 0; i < ARRAY_COUNT(units); i++) {
        if (skip(v, units[i].name)) {
            if (count != 1 && !skip(v, "s")) {
                return -1;
            }
            *(units[i].in_months ? months : days) +=
                count * (units[i].in_months ? units[i].in_months : 1);
            return 0;
        }
    }
    return -1;
}

/* [-]hh:mm:ss[.f] at the end of an interval; its sign holds for all of it. */
static int end_interval_clock(struct view *v, bool negative, int64_t *us) {
    uint64_t t;
    if (take_clock(v, HOUR_DIGITS_MAX, &t) != 0 || view_left(v) != 0 ||
        t > (uint64_t)INT64_MAX + negative) {
        return -1;
    }
    *us = negative ? (int64_t)(0 - t) : (int64_t)t;
    return 0;
}

int pgsrc_text_interval(const uint8_t *p, size_t len, int64_t *us, int32_t *days, int32_t *months) {
    struct view v = view_of(p, len);
    int64_t day_sum = 0;
    int64_t month_sum = 0;
    *us = 0;
    if (is_all(&v, "infinity") || is_all(&v, "-infinity")) {
        bool lowest = p[0] == '-';
        *us = lowest ? INT64_MIN : INT64_MAX;
        *days = *months = lowest ? INT32_MIN : INT32_MAX;
        return 0;
    }
    for (;;) {
        bool negative = skip(&v, "-");
        if (!negative) {
            skip(&v, "+");
        }
        struct view before = v;
        int64_t count;
        if (take_number(&v, 1, HOUR_DIGITS_MAX, &count) != 0) {
            return -1;
        }
        if (v.at < v.end && *v.at == ':') {
            if (end_interval_clock(&before, negative, us) != 0) {
                return -1;
            }
            break;
        }
        if (!skip(&v, " ") || add_unit(&v, negative ? -count : count, &day_sum, &month_sum) != 0) {
            return -1;
        }
        if (view_left(&v) == 0) {
            break;
        }
        if (!skip(&v, " ")) {
            return -1;
        }
    }
    if (day_sum < INT32_MIN || day_sum > INT32_MAX || month_sum < INT32_MIN ||
        month_sum > INT32_MAX) {
        return -1;
    }
    *days = (int32_t)day_sum;
    *months = (int32_t)month_sum;
    return 0;
}
