# Reads ctest's JUnit report and prints how many tests passed and failed. A Criterion program counts as what its synthesis says,
# anything else as one.
/<testcase / {
  bad = !/status="run"/
  skip = passing = failing = 0
}
/<skipped message="SKIP_RETURN_CODE/ { skip = 1 }
/Synthesis: Tested: / {
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
  if (!bad && passing == 0) passing = 1
  passed += passing
  failed += failing
}
END {
  if (skipped) print skipped " skipped"
  print passed + 0 " passed, " failed + 0 " failed"
}
