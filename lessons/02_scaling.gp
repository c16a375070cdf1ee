# Draws lesson 2's picture:
# gnuplot -e "data='02_scaling.dat'; picture='02_scaling.svg'" 02_scaling.gp, the data being `02_scaling --plot`.
set terminal svg size 900,600 font "DejaVu Sans,Helvetica,Arial,sans-serif,15" background "#ffffff"
set output picture
blue = "#0072b2"
orange = "#d55e00"
set multiplot
set lmargin at screen 0.1
set rmargin at screen 0.97
set logscale x 2
set xrange [1:2**20]
set border 3 lw 1 lc rgb "#666666"
set tics nomirror tc rgb "#333333"
set xtics 16 scale 0.7
set grid ytics lc rgb "#dddddd" lw 1 dt solid

# Above: what outliers cost. Columns: outlier, then error of tokens, of the matrix, and zeros of each way.
set bmargin at screen 0.42
set tmargin at screen 0.91
set label 1 "Error of a token's result, mean of all tokens" at graph 0, 1.06 font ",17"
set label 2 "e4m3, one scale" at first 2**15.7, 31 right tc rgb blue
set label 3 "e5m2, either way" at first 2**6, 8.8 center tc rgb orange
set label 4 "e4m3, fine-grained" at first 2**17, 2.9 center tc rgb blue
set format x ""
set ylabel "error in % of the result"
set logscale y
set yrange [2:110]
set ytics (2, 5, 10, 20, 50, 100) nomirror scale 0.7
plot data using 1:8 with lines lw 3 dt (8,5) lc rgb orange notitle, \
     data using 1:11 with lines lw 3 lc rgb orange notitle, \
     data using 1:2 with lines lw 3 dt (8,5) lc rgb blue notitle, \
     data using 1:5 with lines lw 3 lc rgb blue notitle

# Below: why.
unset label
unset logscale y
set bmargin at screen 0.12
set tmargin at screen 0.31
set label 1 "Activations that become 0" at graph 0, 1.15 font ",17"
set label 2 "e4m3, one scale" at first 2**16.3, 62 right tc rgb blue
set label 3 "all others" at first 2**19, 14 center tc rgb "#333333"
set xlabel "outliers (four channels of every 32nd token), as multiples of the other activations"
set format x "2^{%L}"
set ylabel "share in %"
set yrange [0:105]
set ytics (0, 50, 100) nomirror scale 0.7
plot data using 1:10 with lines lw 3 dt (8,5) lc rgb orange notitle, \
     data using 1:13 with lines lw 3 lc rgb orange notitle, \
     data using 1:4 with lines lw 3 dt (8,5) lc rgb blue notitle, \
     data using 1:7 with lines lw 3 lc rgb blue notitle
unset multiplot
