# Draws `picture` from `data`, what `report plot` printed: for each of two machines its name in a comment, then level and GFLOPS.
set terminal svg size 820,330 font "DejaVu Sans,13" background "white"
set output picture
set multiplot layout 1,2 margins 0.09,0.98,0.14,0.86 spacing 0.09,0
set boxwidth 0.6
set style fill solid 1 noborder
set logscale y
set format y "%.0f"
set border 3 lc rgb "#666666"
set grid y lc rgb "#dddddd"
set tics nomirror textcolor rgb "#333333"
set ylabel "GFLOPS" textcolor rgb "#333333"
unset key
color(name) = name eq "sgemm" ? 0xBBBBBB : 0x0072B2
do for [machine = 0:1] {
  set autoscale xy # stats looks at nothing outside the ranges
  stats data index machine using 2 nooutput
  set yrange [1:STATS_max * 3]
  set xrange [-0.6:STATS_records - 0.4]
  set title system(sprintf("sed -n 's/^# //p' '%s' | sed -n %dp", data, machine + 1)) textcolor rgb "#333333" noenhanced font ",12"
  plot data index machine using 0:2:(color(strcol(1))):xtic(1) with boxes lc rgb variable, \
       '' index machine using 0:2:(sprintf($2 < 1000 ? "%.3g" : "%.0f", $2)) with labels offset 0,0.7 textcolor rgb "#333333"
  unset ylabel
}
unset multiplot
