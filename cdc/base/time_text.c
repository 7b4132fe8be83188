/* Wall time as text, for people. Pure: no time zone data, no libc time functions, the whole range
 * of int64 microseconds. Years are astronomical (year 0 is 1 BC) in the proleptic Gregorian
 * calendar. Thread: any. */
#include <stdio.h>

#include "cdc/base/check.h"
#include "cdc/base/clock.h"

enum { WALL_TEXT_BYTES = 32 };

static int64_t floor_divide(int64_t a, int64_t b) { return a / b - (a % b < 0 ? 1 : 0); }

void clock_format_wall(int64_t wall_us, char *out) {
    const int64_t us_per_day = 86400 * US_PER_S;
    int64_t day = floor_divide(wall_us, us_per_day);
    int64_t rest_us = wall_us % us_per_day;
    int64_t ms = (rest_us < 0 ? rest_us + us_per_day : rest_us) / US_PER_MS;
    /* Days from 0000-03-01 on, so that the leap day ends a year; 146097 days are 400 years. */
    int64_t shifted = day + 719468;
    int64_t era = floor_divide(shifted, 146097);
    int64_t day_of_era = shifted - era * 146097;
    int64_t year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    int64_t march_month = (5 * day_of_year + 2) / 153;
    int month_day = (int)(day_of_year - (153 * march_month + 2) / 5 + 1);
    int month = (int)(march_month < 10 ? march_month + 3 : march_month - 9);
    long long year = (long long)(year_of_era + era * 400 + (month <= 2 ? 1 : 0));
    int n = snprintf(out, WALL_TEXT_BYTES, "%s%04lld-%02d-%02dT%02d:%02d:%02d.%03dZ",
                     year < 0 ? "-" : "", year < 0 ? -year : year, month, month_day,
                     (int)(ms / 3600000), (int)(ms / 60000 % 60), (int)(ms / 1000 % 60),
                     (int)(ms % 1000));
    CHECK(n > 0 && n < WALL_TEXT_BYTES);
}
