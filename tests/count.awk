# Reads ctest's JUnit report and prints how many tests passed and failed. A Criterion program counts as what its synthesis says, and a
# line of it that begins with "skipped: " as a test that was skipped; anything else counts as one.
/<testcase / {
  bad = !/status="run"/
  skip = passing = failing = synthesis = 0
}
/<skipped message="SKIP_RETURN_CODE/ { skip = 1 }
/(^|>)skipped: / { skipped++ }
/Synthesis: Tested: / {
  synthesis = 1
  gsub(/[^0-9|]/, "")
  split($0, number, "|")
  passing = number[2]
  failing = number[3]
}
/<\/testcase>/ {
  if (skip) {
    skipped++
    next
  }
  if (bad && failing == 0) failing = 1
  if (!bad && passing == 0 && !synthesis) passing = 1
  passed += passing
  failed += failing
}
END {
  if (skipped) print skipped " skipped"
  print passed + 0 " passed, " failed + 0 " failed"
}
