# Draws `picture` from `data`, what `report sweep` printed: for each n and k, a block each, the time over m, and the limit's, thin.
blocks = int(system(sprintf("grep -c '^#' '%s'", data)))
set terminal svg size 820,460 font "DejaVu Sans,13" background "white"
set output picture
set border 3 lc rgb "#666666"
set grid lc rgb "#dddddd"
set tics nomirror textcolor rgb "#333333"
set xlabel "m" offset 0,0.7 textcolor rgb "#333333"
set ylabel "microseconds, cold" textcolor rgb "#333333"
set yrange [0:*]
set xtics 64
set key outside below left Left reverse spacing 1.2 textcolor rgb "#333333"
gpu = system(sprintf("sed -n '1s/^# \\(.*\\): [^:]*$/\\1/p' '%s'", data))
set title gpu textcolor rgb "#333333" noenhanced font ",12"
name(i) = system(sprintf("sed -n 's/^# .*: //p' '%s' | sed -n %dp", data, i + 1))
array colors[4] = [0x0072B2, 0xD55E00, 0x009E73, 0x999999]
plot for [i = 0:blocks - 1] data index i using 1:2 with lines lw 2 lc rgb colors[i % 4 + 1] title name(i) noenhanced, \
     for [i = 0:blocks - 1] data index i using 1:3 with lines lw 1 dt 3 lc rgb colors[i % 4 + 1] notitle, \
     NaN with lines lw 1 dt 3 lc rgb "#333333" title "the limit of each"
