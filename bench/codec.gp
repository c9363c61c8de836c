# codec.gp - the picture of `cutwire bench codec`: gnuplot -c codec.gp codec.csv codec.png
csv = ARG1
set terminal pngcairo size 1500,1150 font "sans,13" background "white"
set output ARG2

# awk takes the CSV apart at the quotes round cpu and codec and prints, between tabs, with no space within a field:
# 1 variant, 2 codec, 3 bytes, 4 zeros, 5 encode GB/s, 6 decode GB/s, 7 encode / memcpy, 8 decode / memcpy.
set datafile separator tab
take = "awk -F'\"' 'NR > 1 { gsub(\" \", \"_\"); split($3, v, \",\"); split($5, n, \",\"); variant = v[2]; codec = $4; bytes = n[2]; ".\
       "zeros = n[3]; ours = variant ~ /^(scalar|avx2|avx512|neon)$/; peer = variant \":_\" codec; "
give = "print variant \"\\t\" codec \"\\t\" bytes \"\\t\" zeros \"\\t\" n[7] \"\\t\" n[8] \"\\t\" n[9] \"\\t\" n[10] }' '".csv."'"
rows(condition) = "< ".take."if (".condition.") ".give
unique(condition, field) = system(take."if (".condition." && !seen[".field."]++) print ".field." }' '".csv."'")
spaced(s) = system("printf %s '".s."' | tr _ ' '")

cpu = system("awk -F'\"' 'NR == 2 { print $2 }' '".csv."'")
codecs = unique("ours", "codec")
variants = unique("ours", "variant")
peers = unique("!ours", "peer")
best = word(variants, words(variants))

set multiplot layout 2,2 margins 0.07,0.98,0.14,0.91 spacing 0.08,0.14 \
    title sprintf("cutwire codecs on %s, one thread (PyTorch: two), half of the elements zero", cpu) font "sans,17"
set grid ytics lt 1 lw 1 lc rgb "#e0e0e0"
set border 3
set tics nomirror
set key top right samplen 2 noenhanced maxrows 4

# ---- time against memcpy, by size ----
set logscale xy
set xrange [45000:95000000]
set yrange [0.25:700]
set xtics ("64 KiB" 65536, "1 MiB" 1048576, "4 MiB" 4194304, "16 MiB" 16777216, "64 MiB" 67108864)
set xlabel "fp32 input"
set ylabel "time / memcpy of the same array"
set ytics (0.25, 0.5, 1, 2, 5, 10, 20, 50, 100)
set arrow 1 from graph 0, first 1 to graph 1, first 1 nohead lw 2 dt 2 lc rgb "#666666"
do for [column = 7:8] {
    set title (column == 7 ? "encode, " : "decode, ").best
    plot for [i = 1:words(codecs)] \
        rows(sprintf("variant == \"%s\" && codec == \"%s\" && zeros == 0.5", best, word(codecs, i))) \
        using 3:column with linespoints lw 2 pt 7 ps 0.8 lc i title word(codecs, i)
}
unset arrow 1

# ---- GB/s at 16 MiB, by instruction set, and the peers ----
unset logscale x
set xrange [0.3:words(codecs) + words(peers) + 0.7]
set yrange [0.01:200]
set ylabel "GB/s of fp32 input"
set ytics (0.01, 0.1, 1, 10, 100)
unset xlabel
set xtics () rotate by 25 right noenhanced font "sans,10"
do for [i = 1:words(codecs)] { set xtics add (word(codecs, i) i) }
do for [i = 1:words(peers)] { set xtics add (spaced(word(peers, i)) words(codecs) + i) }
set style fill solid 0.85 noborder
set boxwidth 0.8 / words(variants)
slot(v) = (v - 0.5 - words(variants) / 2.0) * 0.8 / words(variants)
place(list, s) = sum [i = 1:words(list)] (word(list, i) eq s ? i : 0)
do for [column = 5:6] {
    set title (column == 5 ? "encode" : "decode")." at 16 MiB by instruction set, and peers in grey"
    plot for [v = 1:words(variants)] \
        rows(sprintf("variant == \"%s\" && zeros == 0.5 && bytes == 16777216", word(variants, v))) \
        using (place(codecs, strcol(2)) + slot(v)):column with boxes lc v title word(variants, v), \
        rows("!ours && zeros == 0.5 && bytes == 16777216") \
        using (words(codecs) + place(peers, strcol(1).":_".strcol(2))):column with boxes lc rgb "#999999" notitle
}
unset multiplot
