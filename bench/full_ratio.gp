# Draws `picture` from `data`, what `report ratio` printed: for each shape how many times a peer's speed the level has, a block for each peer.
blocks = int(system(sprintf("grep -c '^#' '%s'", data)))
count = int(system(sprintf("sort -n '%s' | tail -n 1 | cut -d ' ' -f 1", data))) + 1
labelled = count <= 64
width = labelled ? 18 * count + 120 : 4 * count + 120
set terminal svg size (width > 820 ? width : 820),(labelled ? 420 : 330) font "DejaVu Sans,13" background "white"
set output picture
set border 3 lc rgb "#666666"
set grid y lc rgb "#dddddd"
set rmargin 8
set tics nomirror textcolor rgb "#333333"
set logscale y 2
set ytics ("half" 0.5, "0.7" 0.7, "as fast" 1, "1.25" 1.25, "1.5" 1.5, "twice" 2, "3 times" 3, "4" 4, "6" 6, "8" 8)
set xrange [-0.8:count - 0.2]
set key outside top center horizontal textcolor rgb "#333333"
if (labelled) { set xtics scale 0 rotate by -60 font ",10" } else { unset xtics; set xlabel "shapes" textcolor rgb "#333333" }
gpu = system(sprintf("sed -n '1s/^# \\(.*\\): [^:]*$/\\1/p' '%s'", data))
set title gpu . ": times a peer's speed, cold" textcolor rgb "#333333" noenhanced font ",12"
peer(i) = system(sprintf("sed -n 's/^# .*: //p' '%s' | sed -n %dp", data, i + 1))
array colors[4] = [0x0072B2, 0xD55E00, 0x009E73, 0x999999]
if (labelled) {
  plot for [i = 0:blocks - 1] data index i using 1:3:xtic(2) with points pt 7 ps 0.6 lc rgb colors[i % 4 + 1] title peer(i) noenhanced, \
       1 with lines lc rgb "#333333" notitle
} else {
  plot for [i = 0:blocks - 1] data index i using 1:3 with points pt 7 ps 0.3 lc rgb colors[i % 4 + 1] title peer(i) noenhanced, \
       1 with lines lc rgb "#333333" notitle
}
