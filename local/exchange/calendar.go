package exchange

import (
	"time"
	_ "time/tzdata" // New York's clock on machines without a time zone database, too
)

// newYork is the time zone of the stocks' exchange.
var newYork = func() *time.Location {
	l, err := time.LoadLocation("America/New_York")
	if err != nil {
		panic("time zones: " + err.Error()) // impossible: they are embedded
	}
	return l
}()

// oneDay is the distance of days in UTC.
const oneDay = 24 * time.Hour

// session is the regular trading of one day.
type session struct {
	day       time.Time // 00:00 UTC
	open, end time.Time
}

// sessionOn returns the session of a day, which is 00:00 UTC; false on weekends and holidays. Trading ends at 13:00 on half days.
func sessionOn(day time.Time) (session, bool) {
	if day.Weekday() == time.Saturday || day.Weekday() == time.Sunday || isHoliday(day) {
		return session{}, false
	}
	end := 16
	if isHalfDay(day) {
		end = 13
	}
	y, m, d := day.Date()
	return session{day, time.Date(y, m, d, 9, 30, 0, 0, newYork), time.Date(y, m, d, end, 0, 0, 0, newYork)}, true
}

// lastSession returns the newest session that has begun.
func lastSession(now time.Time) session {
	y, m, d := now.In(newYork).Date()
	for day := time.Date(y, m, d, 0, 0, 0, 0, time.UTC); ; day = day.Add(-oneDay) {
		if s, open := sessionOn(day); open && !s.open.After(now) {
			return s
		}
	}
}

// isHoliday has the holidays of the New York Stock Exchange by today's rules, without closures for a single occasion.
func isHoliday(day time.Time) bool {
	y, m, d := day.Date()
	monday := func(first int) bool { return day.Weekday() == time.Monday && d >= first && d < first+7 }
	switch m {
	case time.January:
		return monday(15) || isObserved(day, y, time.January, 1)
	case time.February:
		return monday(15)
	case time.May:
		return monday(25)
	case time.June:
		return y >= 2022 && isObserved(day, y, time.June, 19)
	case time.July:
		return isObserved(day, y, time.July, 4)
	case time.September:
		return monday(1)
	case time.November:
		return day.Weekday() == time.Thursday && d >= 22 && d < 29
	case time.December:
		return isObserved(day, y, time.December, 25)
	case time.March, time.April:
		return day.Equal(easter(y).Add(-2 * oneDay))
	default:
		return false
	}
}

// isObserved reports whether a fixed holiday closes the exchange on this day: a Saturday's holiday is moved to Friday, a Sunday's to
// Monday.
func isObserved(day time.Time, y int, m time.Month, d int) bool {
	holiday := time.Date(y, m, d, 0, 0, 0, 0, time.UTC)
	switch holiday.Weekday() {
	case time.Saturday:
		holiday = holiday.Add(-oneDay)
	case time.Sunday:
		holiday = holiday.Add(oneDay)
	default:
	}
	return day.Equal(holiday)
}

// isHalfDay reports whether trading ends early: before Independence Day and Christmas, and after Thanksgiving.
func isHalfDay(day time.Time) bool {
	_, m, d := day.Date()
	return m == time.July && d == 3 || m == time.December && d == 24 ||
		m == time.November && day.Weekday() == time.Friday && d >= 23 && d < 30
}

// easter returns Easter Sunday, by the algorithm of Meeus, Jones and Butcher.
func easter(y int) time.Time {
	a, b, c := y%19, y/100, y%100
	h := (19*a + b - b/4 - (b-(b+8)/25+1)/3 + 15) % 30
	l := (32 + 2*(b%4) + 2*(c/4) - h - c%4) % 7
	n := h + l - 7*((a+11*h+22*l)/451) + 114
	return time.Date(y, time.Month(n/31), n%31+1, 0, 0, 0, 0, time.UTC)
}
