# Draws `picture` from `data`, what `report plot` printed: in a comment of which GPU and shape, then levels and their share of the limit in percent.
set terminal svg size 820,330 font "DejaVu Sans,13" background "white"
set output picture
set boxwidth 0.6
set style fill solid 1 noborder
set border 3 lc rgb "#666666"
set grid y lc rgb "#dddddd"
set tics nomirror textcolor rgb "#333333"
set yrange [0:105]
set ytics 20 format "%.0f %%"
set xtics scale 0 font ",11"
set bmargin 3.2
unset key
peer(name) = strstrt(name, "cublaslt-")
label(name) = peer(name) ? "cuBLASLt\n" . name[10:] : name
color(name) = peer(name) ? 0xBBBBBB : 0x0072B2
set title system(sprintf("sed -n '1s/^# //p' '%s'", data)) textcolor rgb "#333333" noenhanced font ",12"
set xrange [-0.6:*]
plot data index 0 using 0:2:(color(strcol(1))):xtic(label(strcol(1))) with boxes lc rgb variable, \
     '' index 0 using 0:2:(sprintf($2 < 0.1 ? "%.2f %%" : $2 < 10 ? "%.1f %%" : "%.0f %%", $2)) with labels offset 0,0.7 textcolor rgb "#333333"
