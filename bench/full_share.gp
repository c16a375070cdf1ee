# Draws `picture` from `data`, what `report share` printed: a bar for each shape, the colour by its m.
count = int(system(sprintf("sort -n '%s' | tail -n 1 | cut -d ' ' -f 1", data))) + 1
labelled = count <= 64
width = labelled ? 18 * count + 120 : 4 * count + 120
set terminal svg size (width > 820 ? width : 820),(labelled ? 420 : 330) font "DejaVu Sans,13" background "white"
set output picture
set boxwidth 0.7
set style fill solid 1 noborder
set border 3 lc rgb "#666666"
set grid y lc rgb "#dddddd"
set rmargin 8
set tics nomirror textcolor rgb "#333333"
set yrange [0:105]
set ytics 20 format "%.0f %%"
set xrange [-0.8:count - 0.2]
set key outside top center horizontal textcolor rgb "#333333"
if (labelled) { set xtics scale 0 rotate by -60 font ",10" } else { unset xtics; set xlabel "shapes" textcolor rgb "#333333" }
title = system(sprintf("sed -n '1s/^# //p' '%s'", data))
set title title textcolor rgb "#333333" noenhanced font ",12"
few(m) = m <= 128
some(m) = m > 128 && m <= 1024
many(m) = m > 1024
if (labelled) {
  plot data using 1:(few($4) ? $3 : NaN):xtic(2) with boxes lc rgb "#0072B2" title "m up to 128", \
       '' using 1:(some($4) ? $3 : NaN) with boxes lc rgb "#009E73" title "to 1024", \
       '' using 1:(many($4) ? $3 : NaN) with boxes lc rgb "#D55E00" title "more"
} else {
  plot data using 1:(few($4) ? $3 : NaN) with boxes lc rgb "#0072B2" title "m up to 128", \
       '' using 1:(some($4) ? $3 : NaN) with boxes lc rgb "#009E73" title "to 1024", \
       '' using 1:(many($4) ? $3 : NaN) with boxes lc rgb "#D55E00" title "more"
}
