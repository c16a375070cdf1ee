# Draws lesson 3's picture: gnuplot -e "data='03_accumulation.dat'; picture='03_accumulation.svg'" 03_accumulation.gp, the data
# being `03_accumulation --plot`.
set terminal svg size 900,680 font "DejaVu Sans,Helvetica,Arial,sans-serif,15" background "#ffffff"
set output picture
blue = "#0072b2"
orange = "#d55e00"
grey = "#999999"
set multiplot
set border 3 lw 1 lc rgb "#666666"
set tics nomirror tc rgb "#333333" scale 0.7
set grid ytics lc rgb "#dddddd" lw 1 dt solid

# Above: the stall. Columns: K, truth, one level, two levels.
set lmargin at screen 0.1
set rmargin at screen 0.97
set bmargin at screen 0.62
set tmargin at screen 0.92
set label 1 "1/16 times 1/16, added up K times" at graph 0, 1.1 font ",17"
set label 2 "one level: stops at 64" at first 25000, 56 center tc rgb orange
set label 3 "two levels, and the truth" at first 25000, 112 right tc rgb blue
set xlabel "K" offset 0, 0.4
set ylabel "sum"
set xrange [0:32768]
set yrange [0:132]
set xtics 8192
set ytics 32
plot data index 0 using 1:4 with lines lw 3 lc rgb blue notitle, \
     data index 0 using 1:3 with lines lw 3 lc rgb orange notitle

# Below: the error. Columns: K, one level, then chains of 32, 64, 128, 256, 512, 1024.
set label 1 "Error, as a part of the sum of magnitudes" at screen 0.1, 0.5 font ",17"
unset label 3
unset ylabel
set bmargin at screen 0.11
set tmargin at screen 0.42
set logscale x 2
set logscale y
set xrange [128:2**17.5]
set yrange [1e-7:1]
set xtics (128, 2048, 32768)
set ytics 10
set mytics 1
array name[3] = ["bell-shaped", "positive", "cancelling"]
do for [kind = 1:3] {
  set lmargin at screen 0.1 + 0.295 * (kind - 1)
  set rmargin at screen 0.38 + 0.295 * (kind - 1)
  set format y kind == 1 ? "10^{%T}" : ""
  set label 2 name[kind] at graph 0.46, 1.07 center tc rgb "#333333"
  if (kind == 2) {
    set label 3 "one level" at first 2**11, 2.2e-1 center tc rgb orange
    set label 4 "two levels" at first 2**11, 3.2e-4 center font ",13" tc rgb blue
    set label 5 "chains of" at graph 1, first 5e-2 right font ",12" tc rgb "#777777"
  }
  plot for [c = 3:8] data index kind using 1:c with lines lw 1.2 lc rgb grey notitle, \
       data index kind using 1:2 with lines lw 3 lc rgb orange notitle, \
       data index kind using 1:5 with lines lw 3 lc rgb blue notitle, \
       for [c = 3:8] data index kind every ::9::9 using (kind == 2 ? $1 : NaN):c:(sprintf("%d", 2**(c + 2))) \
         with labels left offset 0.5, 0 font ",12" textcolor rgb (c == 5 ? blue : "#777777") notitle
  unset label
}
unset multiplot
