# Draws `picture` from `data`, what `report roofline` printed: TFLOPS over operations for a byte, of the limit, of the level, of each peer.
blocks = int(system(sprintf("grep -c '^#' '%s'", data)))
set terminal svg size 820,420 font "DejaVu Sans,13" background "white"
set output picture
set border 3 lc rgb "#666666"
set grid lc rgb "#dddddd"
set tics nomirror textcolor rgb "#333333"
set logscale xy
set xlabel "operations for a byte of A, B, scales and D" textcolor rgb "#333333"
set ylabel "TFLOPS, cold" textcolor rgb "#333333"
set key bottom right textcolor rgb "#333333"
gpu = system(sprintf("sed -n '1s/^# \\(.*\\): [^:]*$/\\1/p' '%s'", data))
set title gpu textcolor rgb "#333333" noenhanced font ",12"
name(i) = system(sprintf("sed -n 's/^# .*: //p' '%s' | sed -n %dp", data, i + 1))
array colors[4] = [0xD55E00, 0x009E73, 0xCC79A7, 0x999999]
plot data index 0 with lines lw 2 lc rgb "#333333" title name(0) noenhanced, \
     for [i = 2:blocks - 1] data index i with points pt 6 ps 0.5 lc rgb colors[(i - 2) % 4 + 1] title name(i) noenhanced, \
     data index 1 with points pt 7 ps 0.6 lc rgb "#0072B2" title name(1) noenhanced
