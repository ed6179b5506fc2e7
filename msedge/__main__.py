from msedge.cli import main

main()
