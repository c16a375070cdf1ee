# Draws lesson 1's picture:
# gnuplot -e "data='01_fp8.dat'; picture='01_fp8.svg'" 01_fp8.gp, the data being `01_fp8 --plot`.
set terminal svg size 900,600 font "DejaVu Sans,Helvetica,Arial,sans-serif,15" background "#ffffff"
set output picture
blue = "#0072b2"
orange = "#d55e00"
stats data index 0 using (100 * $2) name "e4m3" nooutput
stats data index 0 using (100 * $3) name "e5m2" nooutput
set multiplot
set lmargin at screen 0.1
set rmargin at screen 0.97
set logscale x 2
set xrange [2**-19:2**17]
set border lw 1 lc rgb "#666666"
set tics nomirror tc rgb "#333333"

# Above: the values themselves, a tick each.
set bmargin at screen 0.77
set tmargin at screen 0.93
set label 1 "All positive values: a tick each" at graph 0, 1.12 font ",17"
set label 2 "e4m3" at graph -0.015, first 1.5 right tc rgb blue
set label 3 "e5m2" at graph -0.015, first 0.5 right tc rgb orange
set border 0
unset ytics
set yrange [0:2]
set format x ""
set xtics scale 0
plot data index 1 using 1:(1.1):(0):(0.8) with vectors nohead lw 1.2 lc rgb blue notitle, \
     data index 2 using 1:(0.1):(0):(0.8) with vectors nohead lw 1.2 lc rgb orange notitle

# Below: what rounding costs.
unset label
set border 3
set bmargin at screen 0.13
set tmargin at screen 0.66
set label 1 "Worst error of rounding to the nearest, in each octave" at graph 0, 1.09 font ",17"
set label 2 sprintf("e4m3: %.1f %%", e4m3_min) at first 2**1, 4.2 center tc rgb blue
set label 3 sprintf("e5m2: %.1f %%", e5m2_min) at first 2**1, 13.5 center tc rgb orange
set label 4 "rounds to 0" at first 2**-12, 82 center tc rgb blue
set label 5 "saturates" at first 2**12.8, 70 center tc rgb blue
set label 6 "subnormal:" at first 2**-6.6, 31 left tc rgb blue
set label 7 "ever fewer bits" at first 2**-6.6, 25 left tc rgb blue
set xlabel "magnitude of the number"
set format x "2^{%L}"
set xtics 16 scale 0.7
set ylabel "error in % of the number"
set logscale y
set yrange [3:110]
set ytics (3, 5, 10, 20, 50, 100) nomirror scale 0.7
set grid ytics lc rgb "#dddddd" lw 1 dt solid
plot data index 0 using 1:(100 * $3) with steps lw 3 lc rgb orange notitle, \
     data index 0 using 1:(100 * $2) with steps lw 3 lc rgb blue notitle
unset multiplot
