/* Floats as the shortest decimal text that reads back as the same value, in PostgreSQL's form: the
 * number nearest to the value among the shortest, never the exact middle between two floats
 * (readers differ there). Numbers as people write them, up to 15 digits (6 of a float32), cost one
 * multiplication and one division; other doubles from 1e-4 to 1e15 one or two divisions of 128
 * bits; only what is left is tried with 15, 16, 17 digits. Pure. Thread: any. */
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "cdc/value.h"

/* Decimal digits without zeros at the end; value = d.ddd * 10^exponent. */
struct digits {
    char text[24];
    int count;
    int exponent;
};

static const double pow10_exact[23] = { 1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                        1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                        1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22 };

/* number * 10^-places, number > 0. */
static void digits_from_integer(struct digits *d, uint64_t number, int places) {
    while (number % 100 == 0) {
        number /= 100;
        places -= 2;
    }
    if (number % 10 == 0) {
        number /= 10;
        places--;
    }
    char text[20];
    int at = (int)sizeof text;
    for (; number > 0; number /= 10) {
        text[--at] = (char)('0' + number % 10);
    }
    d->count = (int)sizeof text - at;
    memcpy(d->text, text + at, (size_t)d->count);
    d->exponent = d->count - 1 - places;
}

/* Places by which the point of v (1e-7 <= v < 1e15) must go right to have `want` digits before it
 * (less than 0: left). At most 22. */
static int places_for(double v, int want) {
    int whole = 0; /* digits before the point of v; not above 0 for v < 1 */
    if (v >= 1) {
        while (whole < 22 && v >= pow10_exact[whole]) {
            whole++;
        }
    } else {
        while (whole > -7 && v * pow10_exact[-whole] < 0.1) {
            whole--;
        }
    }
    return want - whole;
}

static double shifted(double v, int places) {
    return places >= 0 ? v * pow10_exact[places] : v / pow10_exact[-places];
}

/* Is there a decimal of at most 15 digits that is v? Then it is the shortest: no two of them are
 * the same double. The product is off by less than half, so rounding finds the integer, and the
 * quotient of two exact numbers is what a reader makes of the text. */
static bool short_double(double v, struct digits *d) {
    if (!(v >= 1e-7 && v < 1e15)) {
        return false;
    }
    int places = places_for(v, 15);
    double number = nearbyint(shifted(v, places));
    if (number < 1 || number > 1e15 || number / pow10_exact[places] != v) {
        return false;
    }
    digits_from_integer(d, (uint64_t)number, places);
    return true;
}

/* Is there a decimal of 16 or 17 digits inside the interval that reads back as v? All sides are
 * exact integers of 128 bits, in units of 2^-shift * 10^-places: 4 m +- 2 is the way to the middle
 * between v and its neighbours, below a power of two only half as far. */
static bool exact_double(double v, struct digits *d) {
    if (!(v >= 1e-4 && v < 1e15)) {
        return false;
    }
    int exponent;
    uint64_t m = (uint64_t)ldexp(frexp(v, &exponent), DBL_MANT_DIG);
    int shift = 2 + DBL_MANT_DIG - exponent; /* 5 to 68 */
    int places = places_for(v, 17);
    if (places < 0 || places > 21) {
        return false;
    }
    unsigned __int128 scale = (unsigned __int128)(uint64_t)pow10_exact[places < 11 ? places : 11] *
                              (uint64_t)pow10_exact[places < 11 ? 0 : places - 11];
    unsigned __int128 middle = scale * (4 * m);
    unsigned __int128 low = scale * (4 * m - (m == UINT64_C(1) << (DBL_MANT_DIG - 1) ? 1 : 2));
    unsigned __int128 high = scale * (4 * m + 2);
    for (int unit = 10; unit >= 1; unit -= 9) {
        unsigned __int128 step = (unsigned __int128)(unsigned)unit << shift;
        uint64_t number = (uint64_t)(middle / step);
        unsigned __int128 below = step * number;
        unsigned __int128 above = below + step;
        bool below_fits = below > low;
        bool above_fits = above < high;
        if (below_fits || above_fits) {
            bool up = above_fits && (!below_fits || above - middle < middle - below ||
                                     (above - middle == middle - below && number % 2));
            digits_from_integer(d, (number + up) * (uint64_t)unit, places);
            return true;
        }
    }
    return false;
}

/* Is number * 10^exponent the exact middle between two floats of so many bits: an odd number of one
 * bit more, times a power of two? Beyond 10^23 the factors 5 alone are too large for it. */
static bool is_middle(uint64_t number, int exponent, int bits) {
    if (exponent < -23 || exponent > 23) {
        return false;
    }
    unsigned __int128 odd = number;
    for (; exponent > 0; exponent--) {
        odd *= 5;
    }
    for (; exponent < 0; exponent++) {
        if (odd % 5 != 0) {
            return false;
        }
        odd /= 5;
    }
    while (odd > 0 && odd % 2 == 0) {
        odd /= 2;
    }
    return odd >> bits == 1;
}

static bool reads_back(const char *text, double v, bool narrow) {
    return narrow ? strtof(text, NULL) == (float)v : strtod(text, NULL) == v;
}

/* "d.ddde-05" with `count` digits, from their integer. */
static void format_number(char *out, size_t cap, uint64_t number, int count, int exponent) {
    snprintf(out, cap, "%llue%d", (unsigned long long)number, exponent - count + 1);
}

/* The nearest decimal of so many digits, else its neighbours: where v is a power of two the
 * interval reaches further up than down, and a number that is not the nearest one may be the only
 * one inside. */
static bool try_digits(double v, int count, bool narrow, struct digits *d) {
    char text[40];
    snprintf(text, sizeof text, "%.*e", count - 1, v);
    int exponent = atoi(strchr(text, 'e') + 1);
    uint64_t number = 0;
    for (const char *p = text; *p != 'e'; p++) {
        number = *p == '.' ? number : number * 10 + (uint64_t)(*p - '0');
    }
    uint64_t tries[3] = { number, number + 1, number - 1 };
    for (int i = 0; i < 3; i++) {
        if (tries[i] == 0) {
            continue;
        }
        format_number(text, sizeof text, tries[i], count, exponent);
        if (reads_back(text, v, narrow) &&
            !is_middle(tries[i], exponent - count + 1, narrow ? FLT_MANT_DIG : DBL_MANT_DIG)) {
            digits_from_integer(d, tries[i], count - 1 - exponent);
            return true;
        }
    }
    return false;
}

static void long_digits(double v, bool narrow, struct digits *d) {
    double least = narrow ? (double)FLT_MIN : DBL_MIN;
    int last = narrow ? 9 : 17;
    int count = v < least ? 1
                : narrow  ? 6
                          : 15; /* denormals have fewer bits, and so fewer digits */
    while (!try_digits(v, count, narrow, d)) {
        count++;
        CHECK(count <= last);
    }
}

/* As short_double, for float32 of 6 to 9 digits: the quotient is rounded a second time, which is
 * right unless it lies on a middle. */
static bool short_float(double v, struct digits *d) {
    if (!(v >= 1e-7 && v < 1e9)) {
        return false;
    }
    for (int count = 6; count <= 9; count++) {
        int places = places_for(v, count);
        double exact = shifted(v, places);
        double nearest = nearbyint(exact);
        double next = nearest > exact ? -1 : 1;
        double tries[3] = { nearest, nearest + next, nearest - next };
        for (int i = 0; i < 3; i++) {
            double read = shifted(tries[i], -places);
            uint64_t bits;
            memcpy(&bits, &read, sizeof bits);
            bool middle = (bits & 0x1FFFFFFF) == 0x10000000;
            if (tries[i] >= 1 && !middle && (float)read == (float)v) {
                digits_from_integer(d, (uint64_t)tries[i], places);
                return true;
            }
        }
    }
    return false;
}

static void put_zeros(char *to, int count) { memset(to, '0', (size_t)count); }

/* Plain from 0.0001 up to `plain_max` digits before the point, else with an exponent of at least
 * two digits. */
static void put_digits(struct buf *out, const struct digits *d, int plain_max) {
    char text[48];
    char *to = text;
    if (d->exponent < -4 || d->exponent >= plain_max) {
        *to++ = d->text[0];
        if (d->count > 1) {
            *to++ = '.';
            memcpy(to, d->text + 1, (size_t)d->count - 1);
            to += d->count - 1;
        }
        unsigned exponent = (unsigned)(d->exponent < 0 ? -d->exponent : d->exponent);
        *to++ = 'e';
        *to++ = d->exponent < 0 ? '-' : '+';
        if (exponent >= 100) {
            *to++ = (char)('0' + exponent / 100);
        }
        *to++ = (char)('0' + exponent / 10 % 10);
        *to++ = (char)('0' + exponent % 10);
    } else if (d->exponent < 0) {
        int zeros = -d->exponent - 1;
        *to++ = '0';
        *to++ = '.';
        put_zeros(to, zeros);
        memcpy(to + zeros, d->text, (size_t)d->count);
        to += zeros + d->count;
    } else {
        int whole = d->exponent + 1;
        int given = d->count < whole ? d->count : whole;
        memcpy(to, d->text, (size_t)given);
        put_zeros(to + given, whole - given);
        to += whole;
        if (d->count > whole) {
            *to++ = '.';
            memcpy(to, d->text + whole, (size_t)(d->count - whole));
            to += d->count - whole;
        }
    }
    buf_put(out, text, (size_t)(to - text));
}

static void put_float(struct buf *out, double v, bool narrow) {
    if (isnan(v)) {
        buf_puts(out, "NaN");
        return;
    }
    if (signbit(v)) {
        buf_putc(out, '-');
        v = -v;
    }
    if (isinf(v)) {
        buf_puts(out, "Infinity");
        return;
    }
    if (v == 0) {
        buf_putc(out, '0');
        return;
    }
    struct digits d;
    if (!(narrow ? short_float(v, &d) : short_double(v, &d) || exact_double(v, &d))) {
        long_digits(v, narrow, &d);
    }
    put_digits(out, &d, narrow ? 6 : 15);
}

void value_put_float32(struct buf *out, float v) { put_float(out, v, true); }

void value_put_float64(struct buf *out, double v) { put_float(out, v, false); }
