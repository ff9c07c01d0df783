"""Evaluates relocalization and prints the table: `jaxreloc eval`, from the project's folder.

  python run_eval.py --scene=chess --workdir=DIR
  python run_eval.py --scene=all --ground_truth=dslam,sfm
  python run_eval.py --dataset=posed_images --data_path=PHOTOS --scene=NAME --viz
  python run_eval.py --pairs=NN_university.txt --estimates=FILE
  python run_eval.py --poses=chess_hloc.txt --truth=chess_test.txt
"""

from jaxreloc.cli import main

if __name__ == "__main__":
    main.script("eval")
