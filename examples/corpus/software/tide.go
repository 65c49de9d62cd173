// Package tide tells the skippers of the Senn Ferry Company when there is enough water at a landing.
//
// The River Senn is tidal as far as Marrowick weir. The height between low and high water follows the rule of
// twelfths: in the six hours of a tide the water rises by 1, 2, 3, 3, 2 and 1 twelfths of the range.
package tide

import (
	"errors"
	"time"
)

// MinimumDepth is the water, in metres, that each boat needs at a landing: its draught plus 0.4 metres of safety.
var MinimumDepth = map[string]float64{
	"Wagtail": 1.9,
	"Dipper":  1.3,
	"Bittern": 2.2,
}

// twelfths is the share of the range that has risen after each full hour of a six-hour tide.
var twelfths = [7]float64{0, 1, 3, 6, 9, 11, 12}

// ErrNotRising means that high water was given before low water.
var ErrNotRising = errors.New("tide: high water must come after low water")

// Tide is one rising tide at a landing. Heights are in metres above chart datum.
type Tide struct {
	LowAt, HighAt         time.Time
	LowMetres, HighMetres float64
}

// HeightAt gives the height of the water at a moment of the tide; before and after the tide it holds the end values.
func (t Tide) HeightAt(at time.Time) (float64, error) {
	if !t.HighAt.After(t.LowAt) {
		return 0, ErrNotRising
	}
	hours := 6 * float64(at.Sub(t.LowAt)) / float64(t.HighAt.Sub(t.LowAt))
	switch {
	case hours <= 0:
		return t.LowMetres, nil
	case hours >= 6:
		return t.HighMetres, nil
	}
	hour := int(hours)
	share := twelfths[hour] + (hours-float64(hour))*(twelfths[hour+1]-twelfths[hour])
	return t.LowMetres + share/12*(t.HighMetres-t.LowMetres), nil
}

// FirstSafe finds the first moment, in steps of five minutes, at which a boat may approach a landing whose sill lies
// sillMetres above chart datum. It returns false when the boat finds no water on this tide.
func (t Tide) FirstSafe(boat string, sillMetres float64) (time.Time, bool) {
	need, known := MinimumDepth[boat]
	if !known {
		return time.Time{}, false
	}
	for at := t.LowAt; !at.After(t.HighAt); at = at.Add(5 * time.Minute) {
		height, err := t.HeightAt(at)
		if err != nil {
			return time.Time{}, false
		}
		if height-sillMetres >= need {
			return at, true
		}
	}
	return time.Time{}, false
}
