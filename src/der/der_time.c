/* SPDX-License-Identifier: Apache-2.0 */
#include "der/der_time.h"

/* gmtime_r and timegm take the C library's time zone lock, and these run for every leaf: so the
 * calendar is computed here. */

enum { DAY_SEC = 86400, DAYS_400_YEARS = 146097, DAYS_TO_1970 = 719468 };

static bool is_leap(int year)
{
    return year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
}

static int month_days(int year, int month)
{
    static const uint8_t days[12] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};

    return month == 2 && is_leap(year) ? 29 : days[month - 1];
}

/* Years that begin in March make the leap day the last one: then days are counted by a formula.
 * `day` is counted from 0000-03-01. */
static int64_t days_of(int year, int month, int day)
{
    int64_t y = month <= 2 ? year - 1 : year;
    int64_t era = y / 400;
    int64_t year_of_era = y - era * 400;
    int64_t day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;

    return era * DAYS_400_YEARS + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 +
           day_of_year - DAYS_TO_1970;
}

static void date_of(int64_t days, int *ret_year, int *ret_month, int *ret_day)
{
    int64_t era = (days + DAYS_TO_1970) / DAYS_400_YEARS;
    int64_t day_of_era = days + DAYS_TO_1970 - era * DAYS_400_YEARS;
    int64_t year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    int64_t month = (5 * day_of_year + 2) / 153;

    *ret_day = (int)(day_of_year - (153 * month + 2) / 5 + 1);
    *ret_month = (int)(month < 10 ? month + 3 : month - 9);
    *ret_year = (int)(year_of_era + era * 400 + (*ret_month <= 2));
}

/* `digits` decimal digits at *at, or -1; moves *at. */
static int read_number(const uint8_t **at, int digits)
{
    int number = 0;

    for (int i = 0; i < digits; i++) {
        uint8_t c = *(*at)++;

        if (c < '0' || c > '9')
            return -1;
        number = 10 * number + (c - '0');
    }
    return number;
}

static bool read_clock(const uint8_t **at, int64_t *ret_sec)
{
    int hour = read_number(at, 2);
    int minute = hour < 0 ? -1 : read_number(at, 2);
    int second = minute < 0 ? -1 : read_number(at, 2);

    if (second < 0 || hour > 23 || minute > 59 || second > 59 || **at != 'Z')
        return false;
    *ret_sec = hour * 3600 + minute * 60 + second;
    return true;
}

int64_t der_read_time(struct der *der, bool *ret_odd)
{
    bool is_utc = der_next_is(der, DER_UTC_TIME);
    struct bytes text = der_read(der, is_utc ? DER_UTC_TIME : DER_GENERALIZED_TIME);
    const uint8_t *at = text.data;
    int year;
    int month;
    int day;
    int64_t clock_sec;

    if (text.len != (is_utc ? 13 : 15))
        goto bad;
    year = read_number(&at, is_utc ? 2 : 4);
    if (year < 0)
        goto bad;
    if (is_utc)
        year += year < 50 ? 2000 : 1900;
    month = read_number(&at, 2);
    if (year < 1950 || month < 1 || month > 12)
        goto bad;
    day = read_number(&at, 2);
    if (day < 1 || day > month_days(year, month) || !read_clock(&at, &clock_sec))
        goto bad;
    if (!is_utc && year < 2050 && ret_odd)
        *ret_odd = true;
    return days_of(year, month, day) * DAY_SEC + clock_sec;
bad:
    der_fail(der);
    return 0;
}

/* Two decimal digits, put before what was written. */
static void put_two(struct der_writer *writer, int number)
{
    der_put_octet(writer, (uint8_t)('0' + number % 10));
    der_put_octet(writer, (uint8_t)('0' + number / 10 % 10));
}

void der_put_time(struct der_writer *writer, int64_t sec)
{
    static const int64_t first_sec = -631152000LL;  /* 1950-01-01 00:00:00 */
    static const int64_t last_sec = 253402300799LL; /* 9999-12-31 23:59:59 */
    const uint8_t *mark = der_mark(writer);
    int64_t days;
    int second;
    int year;
    int month;
    int day;

    if (sec < first_sec || sec > last_sec) {
        writer->failed = true;
        return;
    }
    days = (sec - first_sec) / DAY_SEC + first_sec / DAY_SEC;
    second = (int)((sec - first_sec) % DAY_SEC);
    date_of(days, &year, &month, &day);

    der_put_octet(writer, 'Z');
    put_two(writer, second % 60);
    put_two(writer, second / 60 % 60);
    put_two(writer, second / 3600);
    put_two(writer, day);
    put_two(writer, month);
    put_two(writer, year % 100);
    if (year >= 2050)
        put_two(writer, year / 100);
    der_wrap(writer, year >= 2050 ? DER_GENERALIZED_TIME : DER_UTC_TIME, mark);
}
