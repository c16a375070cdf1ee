# Draws the picture of docs/numerics.md:
# gnuplot -e "data='numerics.dat'; picture='numerics.svg'" numerics.gp, the data being `numerics --plot`.
set terminal svg size 900,560 font "DejaVu Sans,Helvetica,Arial,sans-serif,15" background "#ffffff"
set output picture
array colours[6] = ["#0072b2", "#d55e00", "#009e73", "#aa4499", "#c58a00", "#000000"]
array names[6] = ["bell-shaped", "positive", "cancelling", "subnormal", "outliers", "constructed"]
set multiplot
set tmargin at screen 0.82
set bmargin at screen 0.14
set logscale xy
set xrange [1e-5:1]
set yrange [1e-4:1]
set border 3 lw 1 lc rgb "#666666"
set tics nomirror tc rgb "#333333" scale 0.7
set format "10^{%L}"
set xtics ("10^{-5}" 1e-5, "10^{-4}" 1e-4, "10^{-3}" 1e-3, "10^{-2}" 1e-2, "10^{-1}" 1e-1, "1" 1)
set ytics ("10^{-4}" 1e-4, "10^{-3}" 1e-3, "10^{-2}" 1e-2, "10^{-1}" 1e-1, "1" 1)
set grid xtics ytics lc rgb "#dddddd" lw 1 dt solid
set xlabel "|error| / bound"
set label 1 "How much of its bound does an element of the level hopper use?" at screen 0.08, 0.955 font ",17"
do for [kind = 1:6] {
  set label 10 + kind names[kind] at screen 0.08 + 0.15 * (kind - 1), 0.895 tc rgb colours[kind]
}

set lmargin at screen 0.09
set rmargin at screen 0.51
set ylabel "part of the elements that reach it"
set label 2 "k = 128" at graph 0.03, 0.05
plot for [kind = 1:6] data index kind - 1 using 1:2 with lines lw 3 lc rgb colours[kind] notitle

set lmargin at screen 0.56
set rmargin at screen 0.98
unset label
unset ylabel
set format y ""
set ytics ("" 1e-4, "" 1e-3, "" 1e-2, "" 1e-1, "" 1)
set label 2 "k = 7168" at graph 0.03, 0.05
plot for [kind = 1:6] data index kind + 5 using 1:2 with lines lw 3 lc rgb colours[kind] notitle
unset multiplot
